"""Episodes as logs tell them, and what is supplied, in the open, where a log is silent.

A reader of a format (`ovmse.data.formats`) yields one `RawEpisode` per episode and supplies nothing itself; `supply`
makes it the arrays of a dataset by the user's `ImportRules`, and counts every assumption in a `AssumptionLog`.

Axes: T steps, N agents, A actions, O observation features, S state features.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ovmse.core.errors import UserError, check_known, check_positive
from ovmse.core.types import Flat
from ovmse.data.schema import DIMENSIONS, ROWS, Names


class RawEpisode(NamedTuple):
    """One episode as its source tells it; None is what the source does not tell.

    obs (T or T+1, N, O), action (T, N) whole numbers, reward (T,) or per agent (T, N), terminal (T,) bool: the task
    ended with that step; state (T or T+1, S); avail (T or T+1, N, A) bool; won: the episode was won. T rows: the
    final one is missing. where: the place in the source, such as "runs/log.h5: episode 7". noted: what the reader
    supplied in this episode. fault: why it cannot be used at all (see `unusable`).
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    state: np.ndarray | None = None
    avail: np.ndarray | None = None
    won: bool | None = None
    where: str = ""
    noted: tuple[str, ...] = ()
    fault: str = ""


def unusable(fault: str) -> RawEpisode:
    """An episode that its reader cannot make arrays of, for a fault that names the place: refused, or skipped."""
    nothing = np.zeros(0)
    return RawEpisode(nothing, nothing, nothing, nothing, fault=fault)


ROW_WORDS = {"obs": "observation", "state": "state", "avail": "masks"}
NO_CHECKSUMS = "no checksums throughout the log: values that were damaged would look like true ones"
"""What a reader takes for granted of files that hold values without a checksum."""


class Source(NamedTuple):
    """A log that has been opened: its episodes, read as they are asked for, and what else it says.

    n_actions: A, by the masks, by what the source states, or by the largest action in it. total: episodes, where known.
    assumed: what the reader itself had to take for granted. facts: further statements of the source (JSON values).
    names: what the source calls agents, actions and features. kinds: see `EnvSpec`.
    """

    name: str
    format: str
    episodes: Iterator[RawEpisode]
    n_actions: int
    total: int | None = None
    assumed: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    names: Names = Names()
    kinds: tuple[int, ...] = ()


Rewards = Literal["equal", "mean", "sum"]
FinalRow = Literal["repeat", "drop"]


@dataclass(frozen=True)
class ImportRules:
    """What to supply where a log is silent."""

    time_limit: int | None = None
    """episodes of this many steps were cut by the time limit, whatever the log calls their last step"""
    rewards: Rewards = "equal"
    """rewards per agent: equal (they must agree, and count once), or their mean or sum"""
    final_row: FinalRow = "repeat"
    """without a final observation: repeat the last one, or drop the last step of episodes that were cut"""

    def __post_init__(self) -> None:
        if self.time_limit is not None:
            check_positive("--time-limit", self.time_limit)
        check_known("way to combine rewards", self.rewards, get_args(Rewards))
        check_known("final-row", self.final_row, get_args(FinalRow))


@dataclass
class AssumptionLog:
    """The assumptions made so far, each with the number of episodes that needed it."""

    made: Counter[str] = field(default_factory=Counter)
    general: tuple[str, ...] = ()

    def note(self, assumption: str) -> None:
        self.made[assumption] += 1

    def lines(self, episodes: int) -> list[str]:
        """One sentence per assumption; the number of episodes where it is not all of them."""
        made = self.made.items()
        of_some = (text if n == episodes else f"{text} ({n:,} of {episodes:,} episodes)" for text, n in made)
        return [*self.general, *of_some]


def complete_episode(logged: RawEpisode, rules: ImportRules, n_actions: int, ledger: AssumptionLog) -> Flat:
    """The arrays of one episode, whole: what the log lacks is supplied by `rules` and noted in `ledger`.

    Raises `UserError` where arrays have the wrong number of axes or rows, actions are not whole numbers, rewards of
    the agents differ and no rule combines them, or nothing is left of the episode. Values are checked on writing.
    """
    if logged.fault:
        raise UserError(logged.fault)
    action = _whole(logged)
    steps, n_agents = action.shape
    terminal = _terminal(logged, rules, steps, ledger)
    reward = _team_reward(logged, rules, steps, n_agents, ledger)
    for text in logged.noted:
        ledger.note(text)
    told = [field for field in ROWS if getattr(logged, field) is not None]
    rows = {field: _rows(logged, field, steps) for field in told}
    if short := [ROW_WORDS[field] for field in told if len(rows[field]) == steps]:
        lacks = "no final observation" if len(rows["obs"]) == steps else f"no final {' and '.join(short)}"
        if rules.final_row == "drop" and not terminal[-1]:
            ledger.note(f"{lacks}: the last step of episodes that were cut was dropped")
            action, reward, terminal, steps = action[:-1], reward[:-1], terminal[:-1], steps - 1
            if steps == 0:
                raise UserError(f"{logged.where}: of its one step nothing is left without a final observation.")
        else:
            cut = "" if terminal[-1] else "; cut episodes bootstrap from it"
            ledger.note(f"{lacks}: the last one was repeated{cut}")
    if "state" not in rows:
        ledger.note("no global state: all observations side by side stand for it")
        rows["state"] = rows["obs"].reshape(len(rows["obs"]), -1)
    if "avail" not in rows:
        ledger.note("no action masks: every action counts as legal")
        rows["avail"] = np.ones((len(rows["obs"]), n_agents, n_actions), bool)
    for name, values in (("observations", logged.obs), ("states", logged.state), ("rewards", logged.reward)):
        if values is not None and is_rounded(np.asarray(values)):
            ledger.note(f"{name} beyond single precision: rounded")
    return Flat(
        obs=_padded(rows["obs"], steps + 1),
        state=_padded(rows["state"], steps + 1),
        avail=_bools(logged, _padded(rows["avail"], steps + 1)),
        action=action,
        reward=reward,
        terminal=terminal,
        length=np.array([steps], np.int32),
        won=np.array([bool(logged.won)]),
    )


def _whole(logged: RawEpisode) -> np.ndarray:
    """The actions as integers, shape (T, N)."""
    action = logged.action
    if action.ndim != 2 or 0 in action.shape:
        raise UserError(f"{logged.where}: action: expected shape (steps, agents), got {action.shape}.")
    if action.dtype.kind not in "iuf":
        raise UserError(f"{logged.where}: action: expected whole numbers, got {action.dtype}.")
    if action.dtype.kind in "iu":
        return action
    whole = np.isfinite(action) & (action == np.floor(action)) & (np.abs(action) < 2**31)
    if not whole.all():
        step, agent = np.argwhere(~whole)[0]
        raise UserError(
            f"{logged.where}: step {step}, agent {agent}: action: expected a whole number, got {action[step, agent]}. "
            "Only discrete actions are supported."
        )
    return action.astype(np.int64)


def _terminal(logged: RawEpisode, rules: ImportRules, steps: int, ledger: AssumptionLog) -> np.ndarray:
    terminal = np.asarray(logged.terminal)
    if terminal.shape != (steps,) or terminal.dtype.kind != "b":
        raise UserError(
            f"{logged.where}: terminal: expected bool of shape ({steps},), got {terminal.dtype} of {terminal.shape}."
        )
    if rules.time_limit is not None and steps > rules.time_limit:
        raise UserError(f"{logged.where}: expected at most {rules.time_limit} steps, the time limit, got {steps}.")
    if steps == rules.time_limit and terminal[-1] and not logged.won:
        ledger.note(f"episodes of {rules.time_limit} steps are marked terminal: taken as cut by the time limit")
        terminal = np.append(terminal[:-1], False)
    return terminal


def _team_reward(
    logged: RawEpisode, rules: ImportRules, steps: int, n_agents: int, ledger: AssumptionLog
) -> np.ndarray:
    reward = np.asarray(logged.reward)
    if reward.shape == (steps,):
        return _floats(logged, "reward", reward)
    if reward.shape != (steps, n_agents):
        raise UserError(
            f"{logged.where}: reward: expected shape ({steps},) or ({steps}, {n_agents}), got {reward.shape}."
        )
    reward = _floats(logged, "reward", reward)
    if rules.rewards != "equal":
        ledger.note(f"rewards per agent: their {rules.rewards} is the team's")
        return reward.mean(axis=1) if rules.rewards == "mean" else reward.sum(axis=1)
    differ = (reward != reward[:, :1]) & ~(np.isnan(reward) & np.isnan(reward[:, :1]))
    if differ.any():
        step, agent = np.argwhere(differ)[0]
        raise UserError(
            f"{logged.where}: step {step}: agent 0 was rewarded {reward[step, 0]}, agent {agent} "
            f"{reward[step, agent]}; a team has one reward. Say how to combine them: --rewards mean or --rewards sum."
        )
    if n_agents > 1:
        ledger.note("rewards per agent: they agree, and count once")
    return reward[:, 0]


def _rows(logged: RawEpisode, name: str, steps: int) -> np.ndarray:
    values, axes = np.asarray(getattr(logged, name)), len(DIMENSIONS[name])
    if values.ndim != axes or len(values) not in (steps, steps + 1):
        raise UserError(
            f"{logged.where}: {name}: expected {axes} axes and {steps} or {steps + 1} rows (there are {steps} steps), "
            f"got shape {values.shape}."
        )
    return values if name == "avail" else _floats(logged, name, values)


def is_rounded(values: np.ndarray) -> bool:
    """Whether single precision changes a value that is a number."""
    if values.dtype.kind == "b" or values.dtype.itemsize <= 2 or values.dtype == np.float32:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(((values.astype(np.float32) != values) & (values == values)).any())


def _floats(logged: RawEpisode, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise UserError(f"{logged.where}: {name}: expected numbers, got {values.dtype}.")
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def _bools(logged: RawEpisode, avail: np.ndarray) -> np.ndarray:
    if avail.dtype.kind == "b":
        return avail
    if avail.dtype.kind not in "iuf" or not ((avail == 0) | (avail == 1)).all():
        raise UserError(f"{logged.where}: avail: expected bool, or only 0 and 1, got {avail.dtype} with other values.")
    return avail.astype(bool)


def _padded(values: np.ndarray, rows: int) -> np.ndarray:
    """Exactly so many rows: the last one is repeated where one is missing."""
    return values[:rows] if len(values) >= rows else np.concatenate([values, values[-1:]])
