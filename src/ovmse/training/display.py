"""What the user sees while a run goes on: a live display in a terminal, plain lines in a pipe, nothing if quiet."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from ovmse.core.errors import typed_command
from ovmse.runs.measure_columns import in_words, measures_among
from ovmse.system.clock import Clock
from ovmse.system.progress import ProgressBar, Terminal, duration

NOTHING_PLAYED = (
    "Nothing was played: FQE is what the log says that the team would earn, beside what its own episodes earned "
    "(discounted); it is an estimate, and knows nothing of its own bias (docs/selection.md)."
)
LONGER = {"offline": "--offline-updates N", "online": "--online-env-steps N"}


class Display(ProgressBar):
    """Shows one run. Without a console it shows nothing."""

    unit, done = "", 0

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """A new phase begins, or goes on at `done`."""
        self.unit, self.done = unit, done
        self.begin(name, total, done, "compiling …")

    def advance(self, done: int, clock: Clock, evaluations: int = 0) -> None:
        """So much of the phase is done, and so many evaluations are to come.

        The time left is that of the work at its pace so far and that of the evaluations, compilation left out of both.
        """
        assert self.total is not None
        work, looks = clock.here(self.name), clock.here("evaluation")
        left = work.busy * (self.total - done) / max(1, done - self.first)
        left += looks.busy * evaluations / max(1, looks.stretches)
        self.done = done
        self.update(done, self._at(done), f"{duration(left)} left")

    def evaluating(self, share: float) -> None:
        """So much of an evaluation is done that takes long."""
        if self.total is not None:
            self.update(self.done, self._at(self.done), f"evaluating, {100 * share:.0f} % done")

    def _at(self, done: int) -> str:
        return f"{done}/{self.total} {self.unit}"

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """An evaluation of all seeds."""
        at = rows[0]["updates"] if self.unit == "updates" else int(np.mean([row["env_steps"] for row in rows]))
        self.say(f"{self.name} {self._at(at)}: {summary(rows)}")

    def handover(self, found: dict[str, Any]) -> None:
        """What the handover check found."""
        agree = [seed["agree"] for seed in found["seeds"]]
        verdict = "agree exactly" if all(agree) else "DIFFER: the switch changed the team"
        if None in agree:
            verdict = "can't be compared: no seed repeats this environment's episodes"
        self.say(f"handover: {found['episodes']} greedy episodes per seed, before and after {verdict}")

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
        if self.console is None:
            return
        self.__exit__()
        self.console.print(last_evaluation(rows))
        if rows[-1]["return"] is None:
            self.say(NOTHING_PLAYED)
        self.say(f"{duration(speed['wall_s'])} in all, {speed['compile_s']:.0f} s of it compiling. Written: {out}")
        if below := [str(seed["seed"]) for seed in speed.get("guard", ()) if seed["below"]]:
            ended = f"guard: ended below the offline policy: seed {', '.join(below)}"
            self.say(f"{ended}. {typed_command('evaluate', out)} --teams safe")
        self.say(f"Next: {typed_command('report', out)}")
        if rows[-1]["return"] is None or rows[-1]["phase"] == "round":
            self.say(f"      {typed_command('export', out, '--to', f'{out}-team')} (files that act by NumPy alone)")
            self.say(f"      {typed_command('improve', out, '--data', 'NEW')} (when it has brought back logs)")
        if speed.get("checkpoint") and rows[-1]["phase"] in LONGER:
            longer = LONGER[rows[-1]["phase"]]
            self.say(f"      {typed_command('train', '--resume', out)} {longer} (to train it for longer)")


def default_display() -> Display:
    """What is shown where nobody said where: a notebook shows progress, all else nothing."""
    console = Terminal()
    return Display(console if console.is_jupyter else None)


def last_evaluation(rows: list[dict[str, Any]]) -> Table:
    """The last row of every seed: scores where it played, and what held-out episodes say where there are any."""
    last = [row for _, row in sorted({row["seed"]: row for row in rows}.items())]
    columns: dict[str, list[str]] = {"seed": [str(row["seed"]) for row in last]}
    if last[0]["return"] is not None:
        columns["win rate"] = [_percent(row["win_rate"]) for row in last]
        columns["return"] = [_number(row["return"]) for row in last]
        columns |= {in_words(x): [_number(row.get(x)) for row in last] for x in measures_among(last[0])}
        columns["Q_tot"] = [_number(row["q_tot"]) for row in last]
    if last[0]["behaviour_return"] is not None:
        columns["held-out loss"] = [_number(row["held_out_loss"]) for row in last]
        columns["agreement"] = [_percent(row["agreement"]) for row in last]
        columns["coverage"] = [_percent(row["coverage"]) for row in last]
        columns["FQE"] = [
            f"{_number(row['fqe'])} [{_number(row['fqe_low'])}, {_number(row['fqe_high'])}]" for row in last
        ]
        columns["behaviour"] = [_number(row["behaviour_return"]) for row in last]
    table = Table(*columns, title=f"last evaluation, {rows[-1]['phase']} phase")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, cells))
    return table


def summary(rows: list[dict[str, Any]]) -> str:
    """One line on an evaluation: means over the seeds."""

    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row.get(name) is not None]
        return float(np.mean(values)) if values else None

    parts = [f"win rate {_percent(mean('win_rate'))}"] if rows[0]["win_rate"] is not None else []
    parts += [] if mean("return") is None else [f"return {_number(mean('return'))}"]
    if mean("behaviour_return") is not None:
        parts.append(f"held-out loss {_number(mean('held_out_loss'))}")
        parts.append(f"agreement {_percent(mean('agreement'))}, coverage {_percent(mean('coverage'))}")
        interval = f"[{_number(mean('fqe_low'))}, {_number(mean('fqe_high'))}]"
        parts.append(f"FQE {_number(mean('fqe'))} {interval} (behaviour {_number(mean('behaviour_return'))})")
    parts += [f"{in_words(name)} {_number(mean(name))}" for name in measures_among(rows[0])]
    names = {"q_tot": "Q_tot", "lambda": "λ", "epsilon": "ε"}
    if mean("lambda") is not None:  # without a weight λ, the memory decides no target
        names["memory_active_share"] = "memory wins"
    parts += [f"{label} {_number(mean(name))}" for name, label in names.items() if mean(name) is not None]
    return ", ".join(parts)


def _score(row: dict[str, Any]) -> str:
    return _number(row["return"]) if row["win_rate"] is None else _percent(row["win_rate"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
