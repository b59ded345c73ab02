"""What a user sees of work under way: lines that stay, and the progress of what may take long."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE_SECONDS, LINE_SECONDS = 2.0, 20.0
Item = TypeVar("Item")


def say(console: Console | None, text: str) -> None:
    """Print a line as it is: no markup, no colours, and not wrapped, so that it can be copied. None: print nothing."""
    if console is not None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def watched(
    items: Iterable[Item], name: str, total: int, size: Callable[[Item], int], console: Console | None
) -> Iterator[Item]:
    """The items, with the progress of their sizes towards `total` shown once it takes over two seconds.

    That is a bar with the time left in a terminal, and lines elsewhere; nothing without a console.
    """
    began = line = time.monotonic()
    done = 0
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(),
        TextColumn("left"), console=console, transient=True, disable=console is None or not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task(name, total=total)
    try:
        for item in items:
            yield item
            done += size(item)
            bar.update(task, completed=done)
            now = time.monotonic()
            if now - began > PATIENCE_SECONDS:
                bar.start()
            if console is not None and not console.is_terminal and now - line > LINE_SECONDS:
                left = (now - began) * (total - done) / max(1, done)
                console.print(f"{name}: {100 * done / max(1, total):.0f} %, {left:.0f} s left", highlight=False)
                line = now
    finally:
        bar.stop()
