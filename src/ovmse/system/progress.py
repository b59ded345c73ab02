"""What a user sees of work under way: lines that stay, and the progress of what may take long."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment

LINE_SECONDS = 20.0  # the longest silence where there is no terminal
PATIENCE_SECONDS = 2.0
REDRAW_SECONDS = 0.25
BAR = 24  # characters
Item = TypeVar("Item")
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, or the direction of text, and halves of characters: everything but lines and tabs."""


class Terminal(Console):
    """Where everything is printed. What is in a text reaches no terminal as a command, whoever wrote it; what its
    encoding lacks is written as an escape; and where nobody reads any more, work goes on unseen."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of something to print, all of them harmless."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, self.encoding), style, control)

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """The reader is gone, as after ``| head``, or the terminal was closed."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def printable(text: str, encoding: str = "utf-8") -> str:
    """A text with what steers a terminal, and what an encoding lacks, as escapes such as ``\\x1b``."""
    text = UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(console: Console | None, text: str) -> None:
    """Print a line as it is: no markup, no colours, and not wrapped, so that it can be copied. None: print nothing."""
    if console is not None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float | int) -> str:
    """Seconds in words, such as ``5 s``, ``3 min 05 s`` or ``2 h 05 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Cell:
    """The output of a notebook's cell: lines that stay, and under them one that changes in place."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.last, self.drawn = "", 0.0
        self.handle: Any = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self.lines.append(text)
        self.draw()

    def change(self, last: str) -> None:
        """What stands in the last line from now on; drawn four times a second at most."""
        self.last = last
        if time.monotonic() - self.drawn > REDRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Have the notebook show it as it is."""
        from IPython.display import display  # here, since only a notebook has it

        content = {"text/plain": printable("\n".join(filter(None, (*self.lines, self.last))))}
        if self.handle is None:
            self.handle = display(content, raw=True, display_id=True)
        else:
            self.handle.update(content, raw=True)
        self.drawn = time.monotonic()


class ProgressBar:
    """Work under way: a bar with the time left in a terminal or a notebook, a line every 20 s elsewhere, nothing
    without a console.

    One piece of work after the other begins, with a bar each. patience: seconds until the bar appears, which then goes
    away with the work.
    """

    def __init__(self, console: Console | None = None, patience: float = 0.0):
        self.console, self.patience = console, patience
        self.live = False
        self.cell = Cell() if console is not None and console.is_jupyter else None
        self.name, self.first, self.began, self.last_line = "", 0, 0.0, 0.0
        self.total: int | None = None
        fields = ("{task.description}", "{task.fields[at]}", "{task.fields[left]}")
        name, at, left = (TextColumn(field, markup=False) for field in fields)
        columns = name, BarColumn(bar_width=24), at, TimeElapsedColumn(), left
        self.bars = Progress(*columns, console=console, refresh_per_second=4, transient=patience > 0)

    def __enter__(self) -> "ProgressBar":
        self.live = self.console is not None and self.console.is_terminal
        if self.live and not self.patience:
            self.bars.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.bars.stop()
        self.live = False
        if self.cell and self.cell.last:
            self.cell.last = "" if self.patience else self.cell.last
            self.cell.draw()

    def begin(self, name: str, total: int | None, done: int = 0, left: str = "") -> None:
        """A piece of work begins, or goes on at `done`. total: None where it is not known; left: shown at first."""
        self.name, self.total, self.first = name, total, done
        self.began = self.last_line = time.monotonic()
        self.task = self.bars.add_task(name, total=total, completed=done, at="", left=left)

    def elapsed(self) -> float:
        """Seconds since the piece of work began."""
        return time.monotonic() - self.began

    def update(self, done: float | int, at: str, left: str | None = None) -> None:
        """So much is done. at: the same in words; left: how long it still takes, else told from the pace so far."""
        if left is None:
            left = f"{self._left(done)} left"
        self.bars.update(self.task, description=self.name, total=self.total, completed=done, at=at, left=left)
        if self.cell:
            if self.elapsed() >= self.patience:
                self.cell.change(f"{self.name} {self._drawn(done)} " + ", ".join(filter(None, (at, left))))
            return
        if self.live and self.elapsed() > self.patience:
            self.bars.start()
        if not self.live and time.monotonic() - self.last_line > LINE_SECONDS:
            self.say(f"{self.name}: " + ", ".join(filter(None, (at, left))))

    def _left(self, done: float | int) -> str:
        if self.total is None or done <= self.first:
            return "?"
        return duration(self.elapsed() * (self.total - done) / (done - self.first))

    def _drawn(self, done: float | int) -> str:
        full = round(BAR * min(1.0, done / self.total)) if self.total else 0
        return "━" * full + "─" * (BAR - full)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.last_line = time.monotonic()
        if self.cell:
            self.cell.say(text)
        else:
            say(self.console, text)


def track(
    items: Iterable[Item], name: str, total: int, size: Callable[[Item], int], console: Console | None
) -> Iterator[Item]:
    """The items, with the progress of their sizes towards `total` shown once it takes over two seconds."""
    with ProgressBar(console, PATIENCE_SECONDS) as bar:
        bar.begin(name, total)
        done = 0
        for item in items:
            yield item
            done += size(item)
            bar.update(done, f"{100 * done / max(1, total):.0f} %")
