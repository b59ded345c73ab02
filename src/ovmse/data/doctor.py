"""The dataset doctor: what the arrays of a dataset must look like, and where the first fault is.

Axes: E episodes, M steps of all episodes, R = M + E rows (every episode keeps the row after its last step),
N agents, A actions, O observation features, S state features. A check of values is a function that returns a
`Finding` or nothing; a new one is one more function in `CHECKS`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypedDict, cast

import numpy as np

from ovmse.errors import UserError
from ovmse.types import EnvSpec


class Flat(TypedDict):
    """The arrays of a dataset, by field.

    obs (R, N, O) and state (R, S) float; avail (R, N, A) bool; action (M, N) int; reward (M,) float;
    terminal (M,) bool; length (E,) int, the steps of every episode; won (E,) bool.
    """

    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    length: np.ndarray
    won: np.ndarray


KINDS = {
    "obs": "f",
    "state": "f",
    "avail": "b",
    "action": "iu",
    "reward": "f",
    "terminal": "b",
    "length": "iu",
    "won": "b",
}
"""The NumPy kinds that a field's dtype may have."""

KIND_NAMES = {"f": "floating-point", "b": "bool", "iu": "integer"}


def shapes(spec: EnvSpec, episodes: int, steps: int) -> dict[str, tuple[int, ...]]:
    """The shape of every field for E `episodes` and M `steps` of an environment."""
    rows, n = steps + episodes, spec.n_agents
    return {
        "obs": (rows, n, spec.obs_size),
        "state": (rows, spec.state_size),
        "avail": (rows, n, spec.n_actions),
        "action": (steps, n),
        "reward": (steps,),
        "terminal": (steps,),
        "length": (episodes,),
        "won": (episodes,),
    }


def action_dtype(n_actions: int) -> np.dtype:
    """The smallest dtype of uint8, uint16 and int32 that holds every action."""
    return np.dtype(np.uint8 if n_actions <= 2**8 else np.uint16 if n_actions <= 2**16 else np.int32)


class Finding(NamedTuple):
    """One kind of fault: a short name, how many values have it, and the first one in words."""

    kind: str
    times: int
    first: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.first} ({self.times} in all)"


class Log(NamedTuple):
    """The arrays under examination, with what every check needs to name a place in them."""

    flat: Flat
    episode_limit: int
    row_start: np.ndarray
    step_start: np.ndarray


def starts(count: np.ndarray) -> np.ndarray:
    """The first index of every episode in a flat axis where episode e has `count[e]` entries, shape (E,)."""
    return np.concatenate([[0], np.cumsum(count, dtype=np.int64)[:-1]])


def step_rows(length: np.ndarray) -> np.ndarray:
    """The row that each step starts from, shape (M,): rows run one ahead of steps with every episode."""
    return np.arange(length.sum()) + np.repeat(np.arange(len(length)), length)


def _place(start: np.ndarray, index: int) -> str:
    """The episode and step of a flat index."""
    episode = int(np.searchsorted(start, index, side="right")) - 1
    return f"episode {episode}, step {index - int(start[episode])}"


def _not_finite(field: str, log: Log) -> Finding | None:
    values: np.ndarray = log.flat[field]  # type: ignore[literal-required]
    # A NaN or an infinity shows in the extremes: sound data needs no mask of its own size.
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return None
    bad = ~np.isfinite(values)
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    place = _place(log.step_start if field == "reward" else log.row_start, int(index[0]))
    agent = f", agent {index[1]}" if field == "obs" else ""
    feature = "" if field == "reward" else f", feature {index[-1]}"
    got = f"{place}{agent}{feature}: expected a finite number, got {values[index]}"
    return Finding(f"{field} is not finite", int(bad.sum()), got)


def _action_out_of_range(log: Log) -> Finding | None:
    avail, action = log.flat["avail"], log.flat["action"]
    n_actions = avail.shape[-1]
    bad = (action < 0) | (action >= n_actions)
    if not bad.any():
        return None
    step, agent = np.unravel_index(int(bad.argmax()), bad.shape)
    return Finding(
        "action out of range",
        int(bad.sum()),
        f"{_place(log.step_start, int(step))}, agent {agent}: expected 0 to {n_actions - 1}, got {action[step, agent]}",
    )


def _no_legal_action(log: Log) -> Finding | None:
    avail, length = log.flat["avail"], log.flat["length"]
    bad = np.asarray(~avail.any(axis=-1))
    bad[log.row_start + length] = False  # after the last step nobody acts
    if not bad.any():
        return None
    row, agent = np.unravel_index(int(bad.argmax()), bad.shape)
    return Finding(
        "no legal action",
        int(bad.sum()),
        f"{_place(log.row_start, int(row))}, agent {agent}: expected at least one true value in avail, "
        "got none (an agent that is out of play needs one action that does nothing)",
    )


def _illegal_action(log: Log) -> Finding | None:
    avail, action, length = log.flat["avail"], log.flat["action"], log.flat["length"]
    rows = step_rows(length)
    n_agents, n_actions = avail.shape[1:]
    in_range = (action >= 0) & (action < n_actions)  # out of range is another finding
    known = np.where(in_range, action, 0)
    bad = in_range & ~avail[rows[:, None], np.arange(n_agents), known]
    if not bad.any():
        return None
    step, agent = np.unravel_index(int(bad.argmax()), bad.shape)
    legal = np.flatnonzero(avail[rows[step], agent])
    return Finding(
        "illegal recorded action",
        int(bad.sum()),
        f"{_place(log.step_start, int(step))}, agent {agent}: action {action[step, agent]}, "
        f"legal are {', '.join(map(str, legal)) or 'none'}",
    )


def _early_terminal(log: Log) -> Finding | None:
    terminal, length = log.flat["terminal"], log.flat["length"]
    bad = terminal.copy()
    bad[log.step_start + length - 1] = False
    if not bad.any():
        return None
    step = int(bad.argmax())
    episode = int(np.searchsorted(log.step_start, step, side="right")) - 1
    return Finding(
        "terminal before the last step",
        int(bad.sum()),
        f"{_place(log.step_start, step)}: expected only at step {length[episode] - 1}, the episode's last",
    )


def _too_long(log: Log) -> Finding | None:
    length = log.flat["length"]
    bad = length > log.episode_limit
    if not bad.any():
        return None
    episode = int(bad.argmax())
    return Finding(
        "episode longer than episode_limit",
        int(bad.sum()),
        f"episode {episode}: expected at most {log.episode_limit} steps, got {length[episode]}",
    )


CHECKS: tuple[Callable[[Log], Finding | None], ...] = (
    _too_long,
    functools.partial(_not_finite, "obs"),
    functools.partial(_not_finite, "state"),
    functools.partial(_not_finite, "reward"),
    _action_out_of_range,
    _no_legal_action,
    _illegal_action,
    _early_terminal,
)


def examine(flat: Flat, episode_limit: int) -> tuple[Finding, ...]:
    """All findings, one per kind of fault, in the order of `CHECKS`; empty when the data can be used.

    The arrays fit each other and every episode has a step (see `conform`).
    """
    length = flat["length"]
    log = Log(flat, episode_limit, starts(length + 1), starts(length))
    return tuple(finding for check in CHECKS if (finding := check(log)) is not None)


def check_values(where: str, flat: Flat, episode_limit: int) -> None:
    """Raise `UserError` unless the values can be used; `where` is the file to name.

    Steps count from 0 within an episode; in obs, state and avail the step after the last is the final row.
    """
    if findings := examine(flat, episode_limit):
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


def conform(where: str, spec: EnvSpec, flat: Flat) -> Flat:
    """The arrays in the dtypes of `Dataset`, checked against the environment and each other.

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
    check_values(where, cast("Flat", arrays), spec.episode_limit)
    if not spec.has_win and arrays["won"].any():
        raise UserError(
            f"{where}: won: expected false throughout, as {spec.name!r} cannot be won (has_win is false); "
            f"episode {int(arrays['won'].argmax())} is true."
        )
    arrays["action"] = arrays["action"].astype(action_dtype(spec.n_actions), copy=False)
    arrays["length"] = arrays["length"].astype(np.int32, copy=False)
    return cast("Flat", arrays)
