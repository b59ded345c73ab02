"""What the user sees while a search goes on: one bar for the whole of it and a line per trial."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ovmse.system.clock import Clock
from ovmse.system.progress import say
from ovmse.training.display import PLAIN_SECONDS, Display
from ovmse.tuning.settings import Tuning
from ovmse.tuning.trials import SearchSpec, Trial

Timed = tuple[str, float]
"""(method, seconds of one of its trials)."""


def seconds_left(ended: Sequence[Timed], coming: Sequence[str], running: tuple[str, float, float]) -> float | None:
    """How long a search will take yet: a method's trials take as long as its last one, or else as the mean trial.

    ended: the trials so far; coming: the methods of those not begun; running: (method, seconds so far, share done).
    None as long as nothing is known.
    """
    method, elapsed, share = running
    last = dict(ended)
    known = list(last.values())
    now = last.get(method) or (elapsed / share if share > 0 else None) or (sum(known) / len(known) if known else None)
    if now is None:
        return None
    mean = sum((*known, now)) / (len(known) + 1)
    last = {method: now} | last
    return max(0.0, now - elapsed) + sum(last.get(name, mean) for name in coming)


class SearchDisplay(Display):
    """Shows a search; the runs that it is made of show themselves in its bar alone. Without a console: nothing."""

    def __init__(self, console: Console | None, tuning: Tuning, plans: Sequence[SearchSpec]):
        super().__init__(None)
        self._out = console
        self._order = [plan.name for _ in range(tuning.trials) for plan in plans]
        self._phases = {p.name: (p.value.offline_loss is not None) + (p.value.online_target is not None) for p in plans}
        self._ended: list[Timed] = []
        self._best: dict[str, Trial] = {}
        self._trials, self._count, self._method = tuning.trials, 0, ""
        self._since = self._last = 0.0
        self._name, self._of, self._what = "", 0, ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[at]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._whole = self._bars.add_task("tuning", total=len(self._order), at="", left="")
        self._depth = 0

    def __enter__(self) -> "SearchDisplay":
        self._depth += 1
        if self._depth == 1 and self._out is not None and self._out.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._depth -= 1
        if self._depth == 0 and self._out is not None and self._out.is_terminal:
            self._bars.stop()

    def known(self, plan: SearchSpec, trial: Trial) -> None:
        """A trial ended before this process began."""
        self._count += 1
        self._note(plan, trial)

    def begin(self, plan: SearchSpec, number: int) -> None:
        """A trial begins."""
        self._method, self._since, self._what = plan.name, time.monotonic(), self._called(plan, number)
        self._show("begins", 0.0)

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """A phase of the trial begins."""
        self._name, self._of, self._unit = name, total, unit
        self._at(done)

    def advance(self, done: int, clock: Clock) -> None:
        """So much of the trial's phase is done."""
        self._at(done)

    def _at(self, done: int) -> None:
        phases = self._phases[self._method]
        before = phases - 1 if self._name == "online" else 0
        share = (before + min(1.0, done / self._of)) / phases
        self._show(f"{self._name} {done}/{self._of} {self._unit}", share)

    def stopping(self) -> None:
        """Ctrl-C was pressed."""
        if self._out is not None:
            self._out.print("stopping after the chunk under way; press Ctrl-C again to stop at once", highlight=False)

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """An evaluation: not shown here."""

    def finish(self, out: Any, rows: list[dict[str, Any]], speed: dict[str, Any]) -> None:
        """A trial's run is over: not shown here."""

    def ended(self, plan: SearchSpec, trial: Trial) -> None:
        """A trial is over."""
        from ovmse.render.format import score

        self._count += 1
        self._note(plan, trial)
        if self._out is None:
            return
        what = self._called(plan, trial.number)
        if trial.score is None:
            self._print(f"{what}: failed: {trial.reason}")
            return
        best = self._best[plan.name]
        which = "the defaults" if best.number == 0 else f"trial-{best.number:02d}"
        text = f"{score(trial.score, trial.score_name)}; best so far {score(best.score, best.score_name)}, {which}"
        self._print(f"{what}: {text}{self._left(0.0, '; ', ended=True)}")

    def _called(self, plan: SearchSpec, number: int) -> str:
        return f"{plan.name} trial-{number:02d} ({number + 1} of {self._trials})"

    def _note(self, plan: SearchSpec, trial: Trial) -> None:
        self._ended.append((plan.name, trial.wall_s))
        best = self._best.get(plan.name)
        if trial.score is not None and (best is None or best.score is None or trial.score > best.score):
            self._best[plan.name] = trial
        self._bars.update(self._whole, completed=self._count)

    def _left(self, share: float, before: str = "", ended: bool = False) -> str:
        coming = self._order[self._count + (not ended) :]
        if ended and not coming:
            return ""
        now = (coming.pop(0), 0.0, 0.0) if ended else (self._method, time.monotonic() - self._since, share)
        seconds = seconds_left(self._ended, coming, now)
        if seconds is None:
            return ""
        hours, minutes = divmod(round(seconds / 60), 60)
        return before + (f"{hours} h {minutes:02d} min left" if hours else f"{minutes or '<1'} min left")

    def _show(self, at: str, share: float) -> None:
        if self._out is None:
            return
        left = self._left(share)
        self._bars.update(self._whole, description=escape(self._what), completed=self._count + share, at=at, left=left)
        if not self._out.is_terminal and time.monotonic() - self._last > PLAIN_SECONDS:
            self._print(f"{self._what}: {at}{', ' + left if left else ''}")

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        assert self._out is not None
        say(self._out, text)
