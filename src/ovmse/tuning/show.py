"""What the user sees while a search goes on: one bar for the whole of it and a line per trial."""

import time
from collections.abc import Sequence

from rich.console import Console

from ovmse.render.format import score
from ovmse.system.clock import Clock
from ovmse.system.progress import ProgressBar, duration
from ovmse.training.display import Display
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
    """Shows a search in one `bar`, and the runs that it is made of there alone. Without a console it shows nothing."""

    def __init__(self, console: Console | None, tuning: Tuning, plans: Sequence[SearchSpec]):
        super().__init__()
        self.bar = ProgressBar(console)
        self._order = [plan.name for _ in range(tuning.trials) for plan in plans]
        self._phases = {p.name: (p.value.offline_loss is not None) + (p.value.online_target is not None) for p in plans}
        self._ended: list[Timed] = []
        self._best: dict[str, Trial] = {}
        self._trials, self._method, self._since = tuning.trials, "", 0.0
        self.bar.begin("tuning", len(self._order))

    def known(self, plan: SearchSpec, trial: Trial) -> None:
        """A trial ended before this process began."""
        self._ended.append((plan.name, trial.wall_s))
        best = self._best.get(plan.name)
        if trial.score is not None and (best is None or best.score is None or trial.score > best.score):
            self._best[plan.name] = trial

    def begin_trial(self, plan: SearchSpec, number: int) -> None:
        """A trial begins."""
        self._method, self._since, self.bar.name = plan.name, time.monotonic(), self._called(plan, number)
        self._show("begins", 0.0)

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        super().phase(name, done, total, unit)
        self.advance(done)

    def advance(self, done: int, clock: Clock | None = None, evaluations: int = 0) -> None:
        phases = self._phases[self._method]
        before = phases - 1 if self.name == "online" else 0
        self._show(f"{self.name} {self._at(done)}", (before + min(1.0, done / (self.total or 1))) / phases)

    def stopping(self) -> None:
        self.bar.say("stopping after the chunk under way; press Ctrl-C again to stop at once")

    def ended(self, plan: SearchSpec, trial: Trial) -> None:
        """A trial is over."""
        self.known(plan, trial)
        if trial.score is None:
            text = f"failed: {trial.reason}"
        else:
            best = self._best[plan.name]
            which = "the defaults" if best.number == 0 else f"trial-{best.number:02d}"
            text = f"{score(trial.score, trial.score_name)}; best so far {score(best.score, best.score_name)}, {which}"
        if coming := self._order[len(self._ended) :]:
            text += f"; {_words(seconds_left(self._ended, coming[1:], (coming[0], 0.0, 0.0)))}"
        self.bar.say(f"{self._called(plan, trial.number)}: {text}")
        self.bar.update(len(self._ended), "ended", "")

    def _called(self, plan: SearchSpec, number: int) -> str:
        return f"{plan.name} trial-{number:02d} ({number + 1} of {self._trials})"

    def _show(self, at: str, share: float) -> None:
        done = len(self._ended)
        running = self._method, time.monotonic() - self._since, share
        left = seconds_left(self._ended, self._order[done + 1 :], running)
        self.bar.update(done + share, at, _words(left))


def _words(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"
