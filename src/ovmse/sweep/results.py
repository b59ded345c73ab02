"""What came out of a sweep: a line per cell and seed in ``results.csv`` and ``.parquet``, and a table over seeds."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.analysis.results import SeedSummary, summarise_run
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.report.table import Column, Table, write_csv
from ovmse.runs import checkpoints
from ovmse.runs.metrics_file import RunRecord, load_run
from ovmse.stats.estimates import Estimate, bootstrap_interval, with_interval
from ovmse.sweep.grid import SEED, Cell
from ovmse.sweep.plan import Job, failure
from ovmse.system import files

FILE, TYPED_FILE = "results.csv", "results.parquet"
SEEDS, PAIRS = "seeds", "pairs"
"""Columns of counts, in the tables over seeds and over pairs."""
SCORES = {
    "before": "before", "mean_online": "auc", "first_tenth_change": "first_tenth", "last_fifth": "last_fifth",
    "final": "final", "best_optimistic": "best", "deepest_dip": "dip",
}  # fmt: skip
"""Columns that hold scores of a seed, and which they are."""
COLUMNS = (
    SEED, "status", "reason", "score", *SCORES, "env_steps", "updates", "wall_s", "cpu_s", "peak_memory_bytes",
    "ovmse", "git_revision", "state_sha256", "offline_run", "run",
)  # fmt: skip
"""The columns of ``results.csv`` after those of the axes (docs/sweeps.md)."""
SHOWN = {"mean_online": fmt.with_interval, "first_tenth_change": fmt.change, "last_fifth": fmt.with_interval}
"""The scores that the table has, and how they are written."""
MEASURES = (
    "Mean online: area under the online curve. First tenth: mean over the first tenth of the online budget, minus "
    "before. Last fifth: mean over the last fifth."
)
CAPTION = f"Means over seeds [95 % interval, bootstrap]. {MEASURES}"
Line = Mapping[str, Any]
NUMBERS: dict[str, type[int] | type[float]] = {
    **dict.fromkeys((SEED, "env_steps", "updates", "peak_memory_bytes"), int),
    **dict.fromkeys((*SCORES, "wall_s", "cpu_s"), float),
}
"""The columns that hold numbers, and of which kind."""


class State(NamedTuple):
    """What became of a cell. name: finished, diverged, failed, stopped or to do; reason: why, where it did not end."""

    name: str
    reason: str = ""


TO_DO, FINISHED = State("to do"), State("finished")


def state_of(job: Job, stopped: Mapping[Path, str]) -> State:
    """What became of a cell's run, by what lies on the disk; `stopped`: why runs ended that go on another time."""
    if checkpoints.has_ended(job.run):
        return FINISHED
    if reason := failure(job):
        return State("diverged" if (job.run / "diagnosis" / "numbers.json").is_file() else "failed", reason)
    return State("stopped", stopped[job.run]) if job.run in stopped else TO_DO


def axes_of(cells: Sequence[Cell]) -> list[str]:
    """The axes of a grid but that of the seed, which is a column of its own."""
    return [axis for axis in cells[0].point if axis != SEED]


def check_axes(cells: Sequence[Cell]) -> None:
    """Raise `UserError` where an axis has the name of a column, or none."""
    if taken := sorted(set(axes_of(cells)) & {"", SEEDS, PAIRS, *COLUMNS, *map(heading, SHOWN)}):
        says = f"a column of {FILE} or of the tables has this name" if taken[0] else "an axis needs a name"
        raise UserError(f"axes.{taken[0]}: {says}. Call the axis otherwise.")


def heading(score: str) -> str:
    """What a score's column is called in a table."""
    return score.removesuffix("_change").replace("_", " ")


def places(cell: Cell) -> dict[str, Any]:
    """A cell's values on the axes but that of the seed."""
    return {axis: value for axis, value in cell.point.items() if axis != SEED}


def lines_of(cell: Cell, job: Job, state: State) -> list[Line]:
    """The lines of a cell, one for each of its seeds; none of one that is still to do.

    A seed that diverged counts as it ended; of a cell that failed otherwise there are no scores.
    """
    if state == TO_DO:
        return []
    start = places(cell) | {"status": state.name, "reason": state.reason, "run": job.run}
    seeds = range(job.config.seed, job.config.seed + job.config.seeds)
    if state.name not in ("finished", "diverged"):
        return [start | {SEED: seed} for seed in seeds]
    record = load_run(job.run)
    found = summarise_run(record)
    about = {"score": found.score, "offline_run": record.config.get("pretrained")}
    about |= {name: record.versions.get(name) for name in ("ovmse", "git_revision")}
    about |= {name: record.summary.get(name) for name in ("wall_s", "cpu_s", "peak_memory_bytes", "state_sha256")}
    by_seed = {one.seed: one for one in found.seeds}
    return [start | about | {SEED: seed} | _numbers(record, by_seed.get(seed)) for seed in seeds]


def _numbers(record: RunRecord, one: SeedSummary | None) -> dict[str, Any]:
    """A seed's scores, and what it spent."""
    if one is None:
        return {}
    trace = next(t for t in (*record.online, *record.offline) if t.seed == one.seed)
    spent = {name: int(trace.columns[name][-1]) for name in ("env_steps", "updates")}
    return {column: getattr(one, name) for column, name in SCORES.items()} | spent


def read(path: Path) -> list[Line]:
    """The lines of a ``results.csv``, numbers as such and None where there is nothing.

    Raises `UserError` naming the file, and the line and column that can't be used.
    """
    found: list[Line] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: expected the {FILE} of a sweep: {error}.") from error
    for number, row in enumerate(rows, 2):
        if missing := [name for name in COLUMNS if row.get(name) is None]:
            raise UserError(f"{path}, line {number}: expected the {FILE} of a sweep; it has no {missing[0]}.")
        line: dict[str, Any] = {name: text or None for name, text in row.items() if isinstance(name, str)}
        for name, kind in NUMBERS.items():
            try:
                line[name] = kind(row[name]) if row[name] else None
            except ValueError:
                raise UserError(f"{path}, line {number}, {name}: expected a number, got {row[name]!r}.") from None
        found.append(line)
    return found


def read_finished(path: Path) -> dict[str, list[Line]]:
    """The lines of the finished cells in a ``results.csv``, such as another machine's, by the name of their run.

    Raises `UserError` as `read` does.
    """
    found: dict[str, list[Line]] = {}
    for line in read(path):
        if line["status"] == FINISHED.name:
            found.setdefault(Path(line["run"]).name, []).append(line)
    return found


def write(out: Path, cells: Sequence[Cell], lines: Sequence[Line]) -> None:
    """Write ``results.csv``, and the same as typed columns into ``results.parquet``; each whole or not at all."""
    axes = {axis: kind_of([cell.point[axis] for cell in cells]) for axis in axes_of(cells)}
    columns = {name: [line.get(name) for line in lines] for name in (*axes, *COLUMNS)}
    write_csv(out / FILE, [Column("", name, values) for name, values in columns.items()])
    write_parquet(out / TYPED_FILE, columns, axes | NUMBERS)


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, type]) -> None:
    """Write columns as Parquet, each of its kind: whole numbers, numbers, or else text; None where there is nothing."""
    import pyarrow as pa  # here: its wait is for those who write
    from pyarrow import parquet

    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    found = {}
    for name, values in columns.items():
        kind = kinds.get(name, str)
        there = [None if value in (None, "") else kind(value) for value in values]
        found[name] = pa.array(there, types[kind])
    with files.replacing(path) as temporary:
        parquet.write_table(pa.table(found), temporary)


def kind_of(values: Sequence[str]) -> type[int] | type[float] | type[str]:
    """What the values of an axis are, all of them: whole numbers, finite numbers, or names."""
    kinds: tuple[type[int] | type[float], ...] = (int, float)
    for kind in kinds:
        try:
            if all(math.isfinite(kind(value)) for value in values):
                return kind
        except ValueError:
            continue
    return str


def table(cells: Sequence[Cell], lines: Sequence[Line]) -> Table:
    """A row for each combination of the axes other than the seed, over the seeds of its finished cells.

    Cells that diverged count as they ended; others that did not finish are counted beside.
    """
    axes, groups = axes_of(cells), grouped(cells, lines)
    columns = [Column(axis, axis, [key[i] for key in groups]) for i, axis in enumerate(axes)]
    columns.append(Column(SEEDS, "", [_seeds(some) for some in groups.values()]))
    for name, show in SHOWN.items():
        means = [_mean(some, name, show) for some in groups.values()]
        columns.append(Column(heading(name), "", means))
    return Table(FILE, "Means over seeds", CAPTION, columns)


def grouped(cells: Sequence[Cell], lines: Sequence[Line]) -> dict[tuple[str, ...], list[Line]]:
    """The lines of each combination of the axes other than the seed, which may have none yet; in the grid's order."""
    axes = axes_of(cells)
    groups: dict[tuple[str, ...], list[Line]] = {tuple(cell.point[axis] for axis in axes): [] for cell in cells}
    for line in lines:
        groups[tuple(line[axis] for axis in axes)].append(line)
    return groups


def _seeds(lines: Iterable[Line]) -> str:
    """How many seeds count, and what became of the others."""
    names = [line["status"] for line in lines]
    beside = [f"{names.count(name)} {name}" for name in ("diverged", "failed", "stopped") if name in names]
    return ", ".join([str(names.count("finished") + names.count("diverged")), *beside])


def mean_of(lines: Iterable[Line], name: str) -> Estimate | None:
    """The mean of a column over the seeds that have it, with its interval (bootstrap); None where none has."""
    values = np.array([line[name] for line in lines if line.get(name) is not None], float)
    if not values.size:
        return None
    return with_interval(values.mean(), bootstrap_interval(values, statistic=np.mean), values.size)


def score_of(lines: Iterable[Line]) -> str | None:
    """What the scores of some lines are, win rates or returns, by the first that has any."""
    return next((line["score"] for line in lines if line.get("score")), None)


def _mean(lines: Sequence[Line], name: str, show: Callable[..., str]) -> str:
    """A mean with its interval, in words."""
    return show(mean_of(lines, name), name=score_of(lines) or "")
