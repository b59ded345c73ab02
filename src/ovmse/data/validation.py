"""The dataset doctor: what the arrays of a dataset must look like, and where the first fault is.

Axes: E episodes, M steps of all episodes, R = M + E rows (every episode keeps the row after its last step),
N agents, A actions, O observation features, S state features. A check of values is a function that returns
a `Fault` or nothing; a new one is one more function in `CHECKS`, and its kind a line in `findings.KINDS_FOUND`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Flat, action_dtype
from ovmse.data.findings import Finding
from ovmse.data.schema import DIMENSIONS, KIND_NAMES, KINDS, shapes, starts, step_rows


class Log(NamedTuple):
    """The arrays under examination, with what every check needs to name a place in them."""

    flat: Flat
    episode_limit: int
    row_start: np.ndarray
    step_start: np.ndarray


class Fault(NamedTuple):
    """Where a check failed: a mask over the first axes of a field (`schema.DIMENSIONS`).

    words: an index of the mask → what was expected there and what came.
    """

    kind: str
    field: str
    bad: np.ndarray
    words: Callable[[tuple[int, ...]], str]


def _not_finite(field: str, log: Log) -> Fault | None:
    values: np.ndarray = log.flat[field]  # type: ignore[literal-required]
    # A NaN or an infinity shows in the extremes: sound data needs no mask of its own size.
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return None
    bad = ~np.isfinite(values)
    return Fault(f"{field} is not finite", field, bad, lambda index: f"expected a finite number, got {values[index]}")


def _action_out_of_range(log: Log) -> Fault:
    action, n_actions = log.flat["action"], log.flat["avail"].shape[-1]
    bad = (action < 0) | (action >= n_actions)
    return Fault(
        "action out of range", "action", bad, lambda index: f"expected 0 to {n_actions - 1}, got {action[index]}"
    )


def _no_legal_action(log: Log) -> Fault:
    bad = np.asarray(~log.flat["avail"].any(axis=-1))
    bad[log.row_start + log.flat["length"]] = False  # after the last step nobody acts
    advice = "an agent that is out of play needs one action that does nothing"
    text = f"expected at least one true value in avail, got none ({advice})"
    return Fault("no legal action", "avail", bad, lambda index: text)


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
    return Fault("illegal recorded action", "action", bad, words)


def _early_terminal(log: Log) -> Fault:
    length, bad = log.flat["length"], log.flat["terminal"].copy()
    bad[log.step_start + length - 1] = False

    def words(index: tuple[int, ...]) -> str:
        return f"expected only at step {length[_episode(log.step_start, index[0])] - 1}, the episode's last"

    return Fault("terminal before the last step", "terminal", bad, words)


def _too_long(log: Log) -> Fault:
    length, limit = log.flat["length"], log.episode_limit
    return Fault(
        "episode longer than episode_limit",
        "length",
        length > limit,
        lambda index: f"expected at most {limit} steps, got {length[index]}",
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
    log = Log(flat, episode_limit, starts(flat["length"] + 1), starts(flat["length"]))
    for check in CHECKS:
        if (fault := check(log)) is not None and fault.bad.any():
            yield log, fault


def _episode(start: np.ndarray, index: int) -> int:
    return int(np.searchsorted(start, index, side="right")) - 1


def _start(log: Log, fault: Fault) -> np.ndarray:
    """The first index of every episode on the first axis of a fault."""
    starts_of = {"row": log.row_start, "step": log.step_start, "episode": np.arange(len(log.flat["length"]))}
    return starts_of[DIMENSIONS[fault.field][0]]


def _finding(log: Log, fault: Fault, first_episode: int) -> Finding:
    index = tuple(int(i) for i in np.unravel_index(int(fault.bad.argmax()), fault.bad.shape))
    start, (axis, *others) = _start(log, fault), DIMENSIONS[fault.field][: len(index)]
    inside = _episode(start, index[0])
    place = {"episode": first_episode + inside}
    if axis != "episode":
        place["step"] = index[0] - int(start[inside])
    place |= zip(others, index[1:], strict=True)
    text = f"{', '.join(f'{name} {i}' for name, i in place.items())}: {fault.words(index)}"
    named = (place["episode"], place.get("step"), place.get("agent"))
    return Finding(fault.kind, int(fault.bad.sum()), text, fault.field, *named)


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


def conform(where: str, spec: EnvSpec, flat: Flat, first_episode: int = 0) -> Flat:
    """The arrays in the dtypes of `Dataset`, checked against the environment and each other.

    first_episode: the number of the first one, where the arrays are a part of what `where` names.
    Steps count from 0 within an episode; in obs, state and avail the step after the last is the final row.
    Raises `UserError` where an episode has no step, with every field whose dtype or shape is wrong, or with the first
    place of every kind of fault that `examine` finds.
    """
    arrays = dict(cast("dict[str, np.ndarray]", flat))
    length = arrays["length"]
    if length.ndim != 1 or length.dtype.kind not in KINDS["length"] or len(length) == 0:
        raise UserError(
            f"{where}: length: expected integers of shape (episodes,), at least one; "
            f"got {length.dtype} of shape {length.shape}."
        )
    if (bad := length < 1).any():
        episode = int(bad.argmax())
        raise UserError(
            f"{where}: episode without steps: episode {episode}: expected a length of at least 1, "
            f"got {length[episode]} ({int(bad.sum())} in all). Leave such episodes out."
        )
    arrays["length"] = length.astype(np.int64)  # so that sums cannot wrap around
    expected = shapes(spec, len(length), int(arrays["length"].sum()))
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
    if findings := examine(cast("Flat", arrays), spec.episode_limit, first_episode):
        faults = "\n  ".join(map(str, findings))
        raise UserError(f"{where}: the data cannot be used:\n  {faults}\nCorrect the log or leave these episodes out.")
    if not spec.has_win and arrays["won"].any():
        raise UserError(
            f"{where}: won: expected false throughout, as {spec.name!r} cannot be won (has_win is false); "
            f"episode {first_episode + int(arrays['won'].argmax())} is true."
        )
    arrays["action"] = arrays["action"].astype(action_dtype(spec.n_actions), copy=False)
    arrays["length"] = arrays["length"].astype(np.int32, copy=False)
    return cast("Flat", arrays)
