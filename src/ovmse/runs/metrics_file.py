"""Read a run directory into immutable arrays. The files and their fields are described in docs/metrics.md."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.settings import flatten
from ovmse.runs import rounds_file
from ovmse.runs.measure_columns import measures_among
from ovmse.runs.rounds_file import Rounds
from ovmse.system.files import as_type, check_tree, numbered_json_lines, read_json

PROGRESS = {"offline": "updates", "online": "env_steps", "round": "updates"}
"""The phases in their order, and the field that says how far each is."""
OPTIONAL = (
    "episodes", "wall_s", "win_rate", "return", "episode_length", "loss", "td_error", "cql", "q_tot", "target",
    "grad_norm", "epsilon", "lambda", "monitor_q_tot", "monitor_offline_value", "monitor_drift",
    "monitor_relative_drift", "monitor_agreement", "memory_active_share", "held_out_loss", "held_out_td_error",
    "agreement", "coverage", "fqe", "fqe_low", "fqe_high", "behaviour_return",
)  # fmt: skip
RENAMED = {"memory_wins": "memory_active_share", "monitor_memory": "monitor_offline_value"}
"""What columns were called in the runs of version 0.1."""
FLAG = "rolled_back"  # true or false in the rows of a guarded online phase; as a column 1 or 0

JsonObject = dict[str, Any]
Fields = Mapping[str, tuple[Any, str]]
"""The type of each field of an object, for msgspec and in words."""
COUNT = (Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)], "a number, 0 or more")
SEED = (int, "a whole number")
NUMBER_OR_NULL = (float | None, "a number or null")
BOOL_OR_NULL = (bool | None, "true, false or null")
ROW_FIELDS: Fields = {
    "phase": (Literal["offline", "online", "round"], "'offline', 'online' or 'round'"),
    "seed": SEED,
    "env_steps": COUNT,
    "updates": COUNT,
    **dict.fromkeys(OPTIONAL, NUMBER_OR_NULL),
    FLAG: BOOL_OR_NULL,
}
COLUMNS = [name for name in ROW_FIELDS if name not in ("phase", "seed")]
HANDOVER_FIELDS: Fields = {
    "seed": SEED,
    "agree": BOOL_OR_NULL,
    **dict.fromkeys(("win_rate_before", "win_rate_after", "return_before", "return_after"), NUMBER_OR_NULL),
    "max_abs_return_difference": NUMBER_OR_NULL,
}
HALT_FIELDS: Fields = {name: ROW_FIELDS[name] for name in ("phase", "seed", "env_steps", "updates")}


@dataclass(frozen=True)
class Trace:
    """One seed's evaluations in one phase.

    columns: field name to float array (K,), in order of progress; NaN where a value was null or missing.
    lost: how many of the last evaluations had no finite score: 0 unless the seed diverged.
    """

    seed: int
    phase: str
    columns: Mapping[str, np.ndarray]
    lost: int


@dataclass(frozen=True)
class RunRecord:
    """A run directory as values.

    offline, online, round: one `Trace` per seed that has rows in that phase, in order of seed.
    handover: seed to its handover record; empty without a handover.
    rounds: of a batch round what it and those before it found. dataset: the dataset's profile, or None. notes: what was
    tolerated while reading, in sentences.
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
    round: tuple[Trace, ...] = ()
    rounds: Rounds | None = None

    def traces(self, phase: str) -> tuple[Trace, ...]:
        """The traces of a phase."""
        return {"online": self.online, "round": self.round}.get(phase, self.offline)

    @property
    def measures(self) -> list[str]:
        """The columns of the environment's own measures, in order."""
        return measures_among(name for trace in self.all_traces for name in trace.columns)

    @property
    def all_traces(self) -> tuple[Trace, ...]:
        """The traces of all phases."""
        return (*self.offline, *self.online, *self.round)


def load_run(path: Path) -> RunRecord:
    """Read a run directory. Raises `UserError` naming the file (and line) that cannot be used."""
    if not path.is_dir():
        raise UserError(f"{path}: no such run directory.")
    check_tree(path)
    metrics = path / "metrics.jsonl"
    rows, notes = read_rows(metrics)
    if not rows:
        raise UserError(f"{metrics}: no evaluation yet. Let the run reach its first evaluation, then try again.")
    traces, rewound = _traces(rows)
    summary = read_summary(path)
    halted = None if summary else read_json(path / "diagnosis" / "numbers.json", JsonObject)
    if halted:
        traces = _halted(traces, _checked(halted, HALT_FIELDS, str(path / "diagnosis" / "numbers.json")))
    return RunRecord(
        path=path,
        config=read_json(path / "config.json", JsonObject) or {},
        versions=read_json(path / "versions.json", JsonObject) or {},
        summary=summary or {},
        dataset=read_json(path / "dataset.json", JsonObject),
        handover=_read_handover(path / "handover.json"),
        **{phase: tuple(t for t in traces if t.phase == phase) for phase in PROGRESS},
        rounds=rounds_file.read(path),
        notes=(*notes, *rewound, *_unfinished(traces)),
    )


class Verdict(TypedDict):
    """What the guard says of a seed at the end: whether its online team is below its offline one."""

    seed: int
    below: bool


class _Summary(TypedDict, total=False):
    guard: list[Verdict]


def read_summary(run: Path) -> JsonObject | None:
    """A run's summary.json; None where there is none. Raises `UserError` where it is damaged."""
    found: JsonObject | None = read_json(run / "summary.json", JsonObject)
    as_type(found or {}, _Summary, run / "summary.json")
    return found


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a metrics.jsonl, checked, and notes on what was tolerated.

    A last line that was cut off is left out; any other unreadable line raises `UserError`.
    """
    notes: list[str] = []

    def cut_off(i: int) -> None:
        notes.append(f"Line {i} of {path.name} is cut off (the run was interrupted while writing); it is left out.")

    rows = []
    for i, found in numbered_json_lines(path, cut_off).items():
        where = f"{path}, line {i}"
        renamed = {RENAMED.get(name, name): value for name, value in as_type(found, JsonObject, where).items()}
        row = _checked(renamed, ROW_FIELDS, where)
        bad = [name for name in COLUMNS if row[name] is not None and not np.isfinite(row[name])]
        if bad and len(notes) < 5:
            notes.append(f"Line {i} of {path.name}: {', '.join(bad)} not finite. Training may have diverged.")
        rows.append(row)
    return rows, notes


def checked_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl as they are written. Raises `UserError` where one can't be used."""
    rows = numbered_json_lines(path)
    check_rows(path, rows)
    return list(rows.values())


def check_rows(path: Path, rows: Mapping[int, Any]) -> None:
    """Raise `UserError` where a row of a metrics.jsonl, by its line, can't be used."""
    for i, row in rows.items():
        _checked(as_type(row, JsonObject, f"{path}, line {i}"), ROW_FIELDS, f"{path}, line {i}")


def _checked(found: JsonObject, fields: Fields, where: str) -> JsonObject:
    """The object with each field in its type, None for one that is missing and may be. Raises `UserError`."""
    values = {}
    own = dict.fromkeys(measures_among(found), NUMBER_OR_NULL)
    for name, (kind, in_words) in {**fields, **own}.items():
        try:
            values[name] = msgspec.convert(found.get(name), kind)
        except (msgspec.ValidationError, UnicodeError) as error:
            raise UserError(f"{where}: {name} must be {in_words}; got {found.get(name)!r}.") from error
    return found | values


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
    names = [*COLUMNS, *measures_among(name for row in rows for name in row)]
    columns = {n: np.array([row.get(n) for row in rows], float) for n in names}
    columns = {n: np.where(np.isfinite(values), values, np.nan) for n, values in columns.items()}
    columns["memory_active_share"][np.isnan(columns["lambda"])] = np.nan  # without a weight λ it decides no target
    score = columns["return" if np.isfinite(columns["return"]).any() else "fqe"]
    return Trace(seed, phase, columns, int(np.isnan(score)[::-1].cumprod().sum()))


def _halted(traces: Sequence[Trace], halt: Mapping[str, Any]) -> list[Trace]:
    """The traces, that of the seed whose learning came to a halt with an evaluation more, where it did: all missing."""
    found = {(t.phase, t.seed): t for t in traces}
    key = halt["phase"], halt["seed"]
    last = _trace(*key, [dict.fromkeys(COLUMNS) | {name: halt[name] for name in ("env_steps", "updates")}])
    if key in found:
        columns = {n: np.append(values, last.columns.get(n, np.nan)) for n, values in found[key].columns.items()}
        last = replace(last, columns=columns, lost=found[key].lost + 1)
    return [t for _, t in sorted((found | {key: last}).items())]


def _unfinished(traces: Sequence[Trace]) -> list[str]:
    """Sentences on seeds that diverged or have fewer evaluations than the others."""
    notes = []
    for phase in PROGRESS:
        mine = [t for t in traces if t.phase == phase]
        if diverged := ", ".join(str(t.seed) for t in mine if t.lost):
            notes.append(f"Seed {diverged} diverged in the {phase} phase, and counts as worst from then on.")
        left_out = sorted({t.seed for t in mine} - {t.seed for t in counted(mine)})
        if left_out:
            names = ", ".join(map(str, left_out))
            notes.append(f"Seed {names} did not finish the {phase} phase: drawn, but left out of all averages.")
    missing = sorted({t.seed for t in traces} - {t.seed for t in traces if t.phase == "online"})
    if missing and any(t.phase == "online" for t in traces):
        notes.append(f"Seed {', '.join(map(str, missing))} has no online evaluation yet.")
    return notes


def counted(traces: Iterable[Trace]) -> tuple[Trace, ...]:
    """The traces that enter averages: those that lack at most the last evaluation that another seed has or diverged."""
    traces = tuple(traces)
    most = max((len(t.columns["updates"]) - (t.lost > 0) for t in traces), default=0)
    least = min(most, max(2, most - 1))
    return tuple(t for t in traces if len(t.columns["updates"]) >= least or t.lost)


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


def counted_series(run: RunRecord, phase: str, name: str) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """`series` of the seeds that count in a phase of a run."""
    return series(counted(run.traces(phase)), name)


def rolled_back(trace: Trace) -> np.ndarray:
    """At which of a seed's evaluations the guard returned it to its offline policy, boolean (K,)."""
    return trace.columns[FLAG] == 1.0


def score_name(run: RunRecord) -> str:
    """``win_rate`` where the environment can be won, otherwise ``return``; ``fqe`` where nothing was played."""
    return next((name for name in ("win_rate", "return", "fqe") if series(run.all_traces, name)), "return")


def setting(config: Mapping[str, Any], name: str) -> Any:
    """A setting by its last name, wherever it is nested (an object answers with its ``name``), or None."""
    value = config.get(name)
    if isinstance(value, Mapping):
        value = value.get("name")
    if value is not None:
        return value
    return next((v for k, v in flatten(config).items() if k.rsplit(".", 1)[-1] == name), None)


def _read_handover(path: Path) -> dict[int, Mapping[str, Any]]:
    records = (read_json(path, JsonObject) or {}).get("seeds", [])
    as_type(records, list[_Seed], f"{path}: 'seeds' must be a list of objects, each with a whole number 'seed'")
    return {r["seed"]: _checked(r, HANDOVER_FIELDS, f"{path}: seed {r['seed']}") for r in records}


class _Seed(TypedDict):
    seed: int
