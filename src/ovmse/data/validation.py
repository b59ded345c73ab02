"""The dataset doctor: what the arrays of a dataset must look like, and where the first fault is.

Axes: E episodes, M steps of all episodes, R = M + E rows (every episode keeps the row after its last step),
N agents, A actions, O observation features, S state features. A check of values is a function that returns
a `Fault` or nothing; a new one is one more function in `CHECKS`, and its kind a line in `findings.KINDS_FOUND`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, cast

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Flat, action_dtype
from ovmse.data.findings import Finding
from ovmse.data.schema import KIND_NAMES, KINDS, shapes, starts, step_rows


class Log(NamedTuple):
    """The arrays under examination, with what every check needs to name a place in them."""

    flat: Flat
    episode_limit: int
    row_start: np.ndarray
    step_start: np.ndarray


class Fault(NamedTuple):
    """Where a check failed: a mask over rows, steps or episodes (its first axis) and what its other axes are.

    words: an index of the mask → what was expected there and what came.
    """

    kind: str
    field: str
    bad: np.ndarray
    axis: Literal["row", "step", "episode"]
    others: tuple[str, ...]
    words: Callable[[tuple[int, ...]], str]


def _not_finite(field: str, log: Log) -> Fault | None:
    values: np.ndarray = log.flat[field]  # type: ignore[literal-required]
    # A NaN or an infinity shows in the extremes: sound data needs no mask of its own size.
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return None
    others = {"obs": ("agent", "feature"), "state": ("feature",), "reward": ()}[field]
    return Fault(
        f"{field} is not finite",
        field,
        ~np.isfinite(values),
        "step" if field == "reward" else "row",
        others,
        lambda index: f"expected a finite number, got {values[index]}",
    )


def _action_out_of_range(log: Log) -> Fault:
    action, n_actions = log.flat["action"], log.flat["avail"].shape[-1]
    return Fault(
        "action out of range",
        "action",
        (action < 0) | (action >= n_actions),
        "step",
        ("agent",),
        lambda index: f"expected 0 to {n_actions - 1}, got {action[index]}",
    )


def _no_legal_action(log: Log) -> Fault:
    bad = np.asarray(~log.flat["avail"].any(axis=-1))
    bad[log.row_start + log.flat["length"]] = False  # after the last step nobody acts
    return Fault(
        "no legal action",
        "avail",
        bad,
        "row",
        ("agent",),
        lambda index: (
            "expected at least one true value in avail, got none "
            "(an agent that is out of play needs one action that does nothing)"
        ),
    )


def _illegal_action(log: Log) -> Fault:
    avail, action = log.flat["avail"], log.flat["action"]
    rows = step_rows(log.flat["length"])
    n_agents, n_actions = avail.shape[1:]
    in_range = (action >= 0) & (action < n_actions)  # out of range is another finding
    known = np.where(in_range, action, 0)

    def words(index: tuple[int, ...]) -> str:
        legal = np.flatnonzero(avail[rows[index[0]], index[1]])
        return f"action {action[index]}, legal are {', '.join(map(str, legal)) or 'none'}"

    bad = in_range & ~avail[rows[:, None], np.arange(n_agents), known]
    return Fault("illegal recorded action", "action", bad, "step", ("agent",), words)


def _early_terminal(log: Log) -> Fault:
    length, bad = log.flat["length"], log.flat["terminal"].copy()
    bad[log.step_start + length - 1] = False

    def words(index: tuple[int, ...]) -> str:
        last = length[_episode(log.step_start, index[0])] - 1
        return f"expected only at step {last}, the episode's last"

    return Fault("terminal before the last step", "terminal", bad, "step", (), words)


def _too_long(log: Log) -> Fault:
    length = log.flat["length"]
    return Fault(
        "episode longer than episode_limit",
        "length",
        length > log.episode_limit,
        "episode",
        (),
        lambda index: f"expected at most {log.episode_limit} steps, got {length[index]}",
    )


CHECKS: tuple[Callable[[Log], Fault | None], ...] = (
    _too_long,
    functools.partial(_not_finite, "obs"),
    functools.partial(_not_finite, "state"),
    functools.partial(_not_finite, "reward"),
    _action_out_of_range,
    _no_legal_action,
    _illegal_action,
    _early_terminal,
)


def _faults(flat: Flat, episode_limit: int) -> Iterator[tuple[Log, Fault]]:
    """The checks that failed, in the order of `CHECKS`."""
    log = Log(flat, episode_limit, starts(flat["length"] + 1), starts(flat["length"]))
    for check in CHECKS:
        if (fault := check(log)) is not None and fault.bad.any():
            yield log, fault


def _episode(start: np.ndarray, index: int) -> int:
    """The episode of a flat index."""
    return int(np.searchsorted(start, index, side="right")) - 1


def _start(log: Log, fault: Fault) -> np.ndarray:
    """The first index of every episode on the axis of a fault."""
    return {"row": log.row_start, "step": log.step_start, "episode": np.arange(len(log.flat["length"]))}[fault.axis]


def _finding(log: Log, fault: Fault, first_episode: int) -> Finding:
    """A fault in words, its first place named."""
    index = tuple(int(i) for i in np.unravel_index(int(fault.bad.argmax()), fault.bad.shape))
    start = _start(log, fault)
    inside = _episode(start, index[0])
    episode, step = first_episode + inside, index[0] - int(start[inside])
    named = dict(zip(fault.others, index[1:], strict=True))
    steps = {} if fault.axis == "episode" else {"step": step}
    place = ", ".join(f"{name} {i}" for name, i in ({"episode": episode} | steps | named).items())
    return Finding(
        fault.kind,
        int(fault.bad.sum()),
        f"{place}: {fault.words(index)}",
        fault.field,
        episode,
        steps.get("step"),
        named.get("agent"),
    )


def examine(flat: Flat, episode_limit: int, first_episode: int = 0) -> tuple[Finding, ...]:
    """All findings, one per kind of fault, in the order of `CHECKS`; empty when the data can be used.

    The arrays fit each other and every episode has a step (see `conform`). `first_episode` is the number of the
    first of these episodes in the whole dataset.
    """
    return tuple(_finding(log, fault, first_episode) for log, fault in _faults(flat, episode_limit))


def faulty(flat: Flat, episode_limit: int) -> np.ndarray:
    """Which episodes have a fault, bool, shape (E,)."""
    found = np.zeros(len(flat["length"]), bool)
    for log, fault in _faults(flat, episode_limit):
        bad = fault.bad.reshape(len(fault.bad), -1).any(axis=1)
        found |= np.logical_or.reduceat(bad, _start(log, fault))
    return found


def check_values(where: str, flat: Flat, episode_limit: int, first_episode: int = 0) -> None:
    """Raise `UserError` unless the values can be used; `where` is the file to name, whose episodes begin with this one.

    Steps count from 0 within an episode; in obs, state and avail the step after the last is the final row.
    """
    if findings := examine(flat, episode_limit, first_episode):
        faults = "\n  ".join(map(str, findings))
        raise UserError(f"{where}: the data cannot be used:\n  {faults}\nCorrect the log or leave these episodes out.")


def check_lengths(where: str, length: np.ndarray) -> None:
    """Raise `UserError` unless there are episodes and each has a step: no place can be named before that."""
    if length.ndim != 1 or length.dtype.kind not in KINDS["length"] or len(length) == 0:
        raise UserError(
            f"{where}: length: expected integers of shape (episodes,), at least one; "
            f"got {length.dtype} of shape {length.shape}."
        )
    bad = length < 1
    if bad.any():
        episode = int(bad.argmax())
        raise UserError(
            f"{where}: episode without steps: episode {episode}: expected a length of at least 1, "
            f"got {length[episode]} ({int(bad.sum())} in all). Leave such episodes out."
        )


def conform(where: str, spec: EnvSpec, flat: Flat, first_episode: int = 0) -> Flat:
    """The arrays in the dtypes of `Dataset`, checked against the environment and each other.

    first_episode: the number of the first one, where the arrays are a part of what `where` names.
    Raises `UserError` with every field whose dtype or shape is wrong, or as `check_values` does.
    """
    check_lengths(where, flat["length"])
    arrays = dict(cast("dict[str, np.ndarray]", flat))
    arrays["length"] = arrays["length"].astype(np.int64)  # so that sums cannot wrap around
    expected = shapes(spec, len(arrays["length"]), int(arrays["length"].sum()))
    wrong = [
        f"{field}: expected {KIND_NAMES[KINDS[field]]} of shape {expected[field]}, got {a.dtype} of shape {a.shape}"
        for field, a in arrays.items()
        if a.shape != expected[field] or a.dtype.kind not in KINDS[field]
    ]
    if wrong:
        raise UserError(
            f"{where}: the arrays do not fit the lengths and the environment:\n  "
            + "\n  ".join(wrong)
            + "\nobs, state and avail have one row more per episode than there are steps."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is found below
        arrays |= {field: arrays[field].astype(np.float32, copy=False) for field in ("obs", "state", "reward")}
    check_values(where, cast("Flat", arrays), spec.episode_limit, first_episode)
    if not spec.has_win and arrays["won"].any():
        raise UserError(
            f"{where}: won: expected false throughout, as {spec.name!r} cannot be won (has_win is false); "
            f"episode {first_episode + int(arrays['won'].argmax())} is true."
        )
    arrays["action"] = arrays["action"].astype(action_dtype(spec.n_actions), copy=False)
    arrays["length"] = arrays["length"].astype(np.int32, copy=False)
    return cast("Flat", arrays)
