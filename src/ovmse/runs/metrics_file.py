"""Read a run directory into immutable arrays. The files and their fields are described in docs/metrics.md."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.config import flatten
from ovmse.core.errors import UserError

PHASES = ("offline", "online")
PROGRESS = {"offline": "updates", "online": "env_steps"}
REQUIRED = ("env_steps", "updates", "return")
OPTIONAL = (
    "episodes", "wall_s", "win_rate", "episode_length", "loss", "td_error", "cql", "q_tot", "target",
    "grad_norm", "epsilon", "lambda", "monitor_q_tot", "monitor_offline_value", "monitor_drift",
    "monitor_relative_drift", "monitor_agreement", "memory_active_share",
)  # fmt: skip
RENAMED = {"memory_wins": "memory_active_share", "monitor_memory": "monitor_offline_value"}
"""What columns were called in the runs of version 0.1."""
FLAG = "rolled_back"  # true or false in the rows of a guarded online phase; as a column 1 or 0
HANDOVER_NUMBERS = (
    "win_rate_before", "win_rate_after", "return_before", "return_after", "max_abs_return_difference",
)  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """One seed's evaluations in one phase.

    columns: field name to float array (K,), in order of progress; NaN where a value was null or missing.
    """

    seed: int
    phase: str
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RunRecord:
    """A run directory as values.

    offline, online: one `Trace` per seed that has rows in that phase, in order of seed.
    handover: seed to its handover record; empty without a handover.
    dataset: the dataset's profile, or None. notes: what was tolerated while reading, in sentences.
    """

    path: Path
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    summary: Mapping[str, Any]
    dataset: Mapping[str, Any] | None
    handover: Mapping[int, Mapping[str, Any]]
    offline: tuple[Trace, ...]
    online: tuple[Trace, ...]
    notes: tuple[str, ...]


def load_run(path: Path) -> RunRecord:
    """Read a run directory. Raises `UserError` naming the file (and line) that cannot be used."""
    metrics = path / "metrics.jsonl"
    if not path.is_dir():
        raise UserError(f"{path}: no such run directory.")
    if not metrics.is_file():
        raise UserError(f"{path}: not a run directory, metrics.jsonl is missing. Give the folder that training wrote.")
    rows, notes = read_rows(metrics)
    if not rows:
        raise UserError(f"{metrics}: no evaluation yet. Let the run reach its first evaluation, then try again.")
    traces, rewound = _traces(rows)
    dataset = path / "dataset.json"
    return RunRecord(
        path=path,
        config=_read_object(path / "config.json"),
        versions=_read_object(path / "versions.json"),
        summary=_read_object(path / "summary.json"),
        dataset=_read_object(dataset) if dataset.exists() else None,
        handover=_read_handover(path / "handover.json"),
        offline=tuple(t for t in traces if t.phase == "offline"),
        online=tuple(t for t in traces if t.phase == "online"),
        notes=(*notes, *rewound, *_unfinished(traces)),
    )


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a metrics.jsonl, checked, and notes on what was tolerated.

    A last line that was cut off is left out; any other unreadable line raises `UserError`.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    filled = [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]
    rows, notes = [], []
    for i, line in filled:
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if i != filled[-1][0]:
                raise UserError(f"{path}, line {i}: not valid JSON ({error}). Remove or repair the line.") from None
            notes.append(f"Line {i} of {path.name} is cut off (the run was interrupted while writing); it is left out.")
            continue
        if isinstance(row, dict):
            row = {RENAMED.get(name, name): value for name, value in row.items()}
        bad = _check_row(row, f"{path}, line {i}")
        if bad and len(notes) < 5:
            notes.append(f"Line {i} of {path.name}: {', '.join(bad)} not finite. Training may have diverged.")
        rows.append(row)
    return rows, notes


def _check_row(row: Any, where: str) -> list[str]:
    """Raise `UserError` for a row that cannot be used; return the names of its values that are not finite."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(row).__name__}.")
    if row.get("phase") not in PHASES:
        raise UserError(f"{where}: phase must be 'offline' or 'online'; got {row.get('phase')!r}.")
    if not isinstance(row.get("seed"), int) or isinstance(row["seed"], bool):
        raise UserError(f"{where}: seed must be a whole number; got {row.get('seed')!r}.")
    for name in REQUIRED:
        if not _is_number(row.get(name)):
            raise UserError(f"{where}: {name} must be a number; got {row.get(name)!r}.")
    for name in OPTIONAL:
        if row.get(name) is not None and not _is_number(row[name]):
            raise UserError(f"{where}: {name} must be a number or null; got {row[name]!r}.")
    if not isinstance(row.get(FLAG), bool | None):
        raise UserError(f"{where}: {FLAG} must be true, false or null; got {row[FLAG]!r}.")
    for name in ("env_steps", "updates"):
        if not np.isfinite(row[name]) or row[name] < 0:
            raise UserError(f"{where}: {name} must be 0 or more; got {row[name]!r}.")
    return [n for n in (*REQUIRED, *OPTIONAL) if row.get(n) is not None and not np.isfinite(row[n])]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _traces(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Trace], list[str]]:
    """Rows split by phase and seed. A row that goes back replaces the rows it overtakes (a resumed run)."""
    kept: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    rewound = 0
    for row in rows:
        x = PROGRESS[row["phase"]]
        history = kept.setdefault((row["phase"], row["seed"]), [])
        while history and history[-1][x] >= row[x]:
            history.pop()
            rewound += 1
        history.append(row)
    traces = [_trace(phase, seed, kept[phase, seed]) for phase, seed in sorted(kept)]
    said = f"{rewound} evaluations were written again after a resume; the later ones count."
    return traces, [said] if rewound else []


def _trace(phase: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> Trace:
    columns = {n: np.array([_value(r.get(n)) for r in rows]) for n in (*REQUIRED, *OPTIONAL, FLAG)}
    return Trace(seed, phase, columns)


def _value(value: float | int | None) -> float:
    return float(value) if value is not None and np.isfinite(value) else float("nan")


def _unfinished(traces: Sequence[Trace]) -> list[str]:
    """Sentences on seeds that have fewer evaluations than the others."""
    notes = []
    for phase in PHASES:
        mine = [t for t in traces if t.phase == phase]
        left_out = sorted({t.seed for t in mine} - {t.seed for t in counted(mine)})
        if left_out:
            names = ", ".join(map(str, left_out))
            notes.append(f"Seed {names} did not finish the {phase} phase: drawn, but left out of all averages.")
    missing = sorted({t.seed for t in traces} - {t.seed for t in traces if t.phase == "online"})
    if missing and any(t.phase == "online" for t in traces):
        notes.append(f"Seed {', '.join(map(str, missing))} has no online evaluation yet.")
    return notes


def counted(traces: Iterable[Trace]) -> tuple[Trace, ...]:
    """The traces that enter averages: those that lack at most the last evaluation that another seed has."""
    traces = tuple(traces)
    most = max((len(t.columns["updates"]) for t in traces), default=0)
    least = min(most, max(2, most - 1))
    return tuple(t for t in traces if len(t.columns["updates"]) >= least)


def series(traces: Iterable[Trace], name: str) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(seed, positions, values) of a field, without missing values; seeds without any value are left out.

    Positions are gradient updates in the offline phase and online environment steps in the online phase.
    """
    found = []
    for trace in traces:
        values = trace.columns[name]
        there = np.isfinite(values)
        if there.any():
            found.append((trace.seed, trace.columns[PROGRESS[trace.phase]][there], values[there]))
    return found


def rolled_back(trace: Trace) -> np.ndarray:
    """At which of a seed's evaluations the guard returned it to its offline policy, boolean (K,)."""
    return trace.columns[FLAG] == 1.0


def score_name(run: RunRecord) -> str:
    """``win_rate`` where the environment can be won, otherwise ``return``."""
    return "win_rate" if series((*run.offline, *run.online), "win_rate") else "return"


def setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting by its last name, wherever it is nested (an object answers with its ``name``), or None."""
    value = config.get(name)
    if isinstance(value, Mapping):
        value = value.get("name")
    if value is not None:
        return value
    return next((v for k, v in flatten(config).items() if k.rsplit(".", 1)[-1] == name), None)


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is absent."""
    if not path.exists():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}). Repair the file or remove it.") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(tree).__name__}.")
    return tree


def _read_handover(path: Path) -> dict[int, Mapping[str, Any]]:
    records = _read_object(path).get("seeds", [])
    if not isinstance(records, list) or not all(
        isinstance(r, dict) and isinstance(r.get("seed"), int) for r in records
    ):
        raise UserError(f"{path}: 'seeds' must be a list of objects, each with a whole number 'seed'.")
    for record in records:
        for name in HANDOVER_NUMBERS:
            if record.get(name) is not None and not _is_number(record[name]):
                raise UserError(
                    f"{path}: seed {record['seed']}: {name} must be a number or null; got {record[name]!r}."
                )
        if not isinstance(record.get("agree"), bool | None):
            raise UserError(f"{path}: seed {record['seed']}: agree must be true or false; got {record['agree']!r}.")
    return {r["seed"]: r | {n: float(r[n]) for n in HANDOVER_NUMBERS if r.get(n) is not None} for r in records}
