"""What the user sees while a run goes on: a live display in a terminal, plain lines in a pipe, nothing if quiet."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ovmse.system.clock import Clock
from ovmse.system.progress import say

PLAIN_SECONDS = 20.0  # the longest silence in a pipe


class Display:
    """Shows one run. Without a console it shows nothing."""

    def __init__(self, console: Console | None = None):
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._bar: TaskID | None = None
        self._status, self._phase, self._unit = Text(""), "", ""
        self._live: Live | None = None
        self._first = self._last_line = self._began = 0.0
        self._total = 0

    def __enter__(self) -> "Display":
        if self._console is not None and self._console.is_terminal:
            self._live = Live(Group(self._bars, self._status), console=self._console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._console is not None:
            say(self._console, text)

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """A new phase begins, or goes on at `done`."""
        self._phase, self._unit, self._total = name, unit, total
        self._first, self._began = done, time.monotonic()
        self._bar = self._bars.add_task(name, total=total, completed=done, unit=unit, left="compiling …")

    def advance(self, done: int, clock: Clock) -> None:
        """So much of the phase is done."""
        if self._bar is None:
            return
        elapsed = time.monotonic() - self._began
        compiled = clock.spent[self._phase].compiling - clock.before_compiling.get(self._phase, 0.0)
        busy = max(0.0, elapsed - compiled)
        left = _time((self._total - done) * busy / (done - self._first)) if done > self._first else "?"
        self._bars.update(self._bar, completed=done, left=f"{left} left")
        if self._live is None and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._line(f"{self._phase} {done}/{self._total} {self._unit}, {left} left")

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """An evaluation of all seeds."""
        if self._console is None:
            return
        self._status.plain = "  " + summary(rows)
        if self._live is None:
            at = rows[0]["updates"] if self._phase == "offline" else int(np.mean([row["env_steps"] for row in rows]))
            self._line(f"{self._phase} {at}/{self._total} {self._unit}: {summary(rows)}")

    def handover(self, found: dict[str, Any]) -> None:
        """What the handover check found."""
        agree = all(seed["agree"] for seed in found["seeds"])
        self.say(
            f"handover: {found['episodes']} greedy episodes per seed, before and after "
            + ("agree exactly" if agree else "DIFFER: the switch changed the team")
        )

    def rolled_back(self, rows: list[dict[str, Any]], past: list[dict[str, Any]]) -> None:
        """The guard sends the seeds of these rows back to their offline policy. past: all rows of the run."""
        first = {row["seed"]: row for row in reversed(past) if row["phase"] == "online"}
        seeds = ", ".join(f"{row['seed']} ({_score(row)}, before {_score(first[row['seed']])})" for row in rows)
        at = max(row["env_steps"] for row in rows)
        self.say(f"guard: at {at:,} env steps back to the offline policy: seed {seeds}")

    def stopping(self) -> None:
        """Ctrl-C was pressed, or the process was told to end."""
        self.say("stopping after the chunk under way; Ctrl-C again stops at once (nothing more is saved)")

    def finish(self, out: Path, rows: list[dict[str, Any]], speed: dict[str, Any]) -> None:
        """The run is over."""
        if self._console is None:
            return
        if self._live is not None:
            self.__exit__(None, None, None)
        table = Table("seed", "win rate", "return", "Q_tot", title=f"last evaluation, {rows[-1]['phase']} phase")
        last = {row["seed"]: row for row in rows}
        for seed, row in sorted(last.items()):
            table.add_row(str(seed), _percent(row["win_rate"]), f"{row['return']:.2f}", _number(row["q_tot"]))
        self._console.print(table)
        self.say(f"{_time(speed['wall_s'])} in all, {speed['compile_s']:.0f} s of it compiling. Written: {out}")
        if below := [str(seed["seed"]) for seed in speed.get("guard", ()) if seed["below"]]:
            ended = f"guard: ended below the offline policy: seed {', '.join(below)}"
            self.say(f"{ended}. ovmse evaluate {out} --teams safe")
        self.say(f"Next: ovmse report {out}")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.say(text)


def summary(rows: list[dict[str, Any]]) -> str:
    """One line on an evaluation: means over the seeds."""

    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return float(np.mean(values)) if values else None

    parts = [f"win rate {_percent(mean('win_rate'))}"] if rows[0]["win_rate"] is not None else []
    parts.append(f"return {_number(mean('return'))}")
    names = {"q_tot": "Q_tot", "lambda": "λ", "epsilon": "ε", "memory_active_share": "memory wins"}
    parts += [f"{label} {_number(mean(name))}" for name, label in names.items() if mean(name) is not None]
    return ", ".join(parts)


def _score(row: dict[str, Any]) -> str:
    return _number(row["return"]) if row["win_rate"] is None else _percent(row["win_rate"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
