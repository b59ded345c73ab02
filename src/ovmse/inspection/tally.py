"""A dataset added up: what every block of episodes contributes to the profile and to the search for oddities.

Axes: E episodes, M steps, R = M + E rows, N agents, A actions, O observation features, S state features.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ovmse.data.schema import starts
from ovmse.data.stream import Block
from ovmse.inspection.coverage import Hashes, hash_rows, mix, pair

LARGE = 10.0
"""Features beyond this magnitude count as unscaled: networks expect inputs of about 1 (our choice)."""


class Episodes(NamedTuple):
    """Per episode, shape (E,) unless said otherwise.

    number: in the whole dataset. returns: undiscounted, float64. ended: by the task. digest: hash of all its contents.
    zero_final, repeated_final: the row after the last step is all zeros, or is the row before it.
    forced: steps at its end from which on an agent had one legal action only, (E, N).
    """

    number: np.ndarray
    returns: np.ndarray
    length: np.ndarray
    won: np.ndarray
    ended: np.ndarray
    digest: np.ndarray
    zero_final: np.ndarray
    repeated_final: np.ndarray
    forced: np.ndarray


class Sums(NamedTuple):
    """Over all steps and rows.

    taken (N, A), legal (A,): choices at which the action was taken, was legal. choices (N,): those with more than one
    legal action. low and high: extremes of every feature, obs (N, O), state (S,). large: rows beyond `LARGE`, of obs
    (O,), of state (S,). repeats: steps that change neither obs nor state, those to the final row left out; of inner
    such steps. rewarded: steps with a reward other than 0.
    """

    taken: np.ndarray
    legal: np.ndarray
    choices: np.ndarray
    obs_low: np.ndarray
    obs_high: np.ndarray
    state_low: np.ndarray
    state_high: np.ndarray
    large_obs: np.ndarray
    large_state: np.ndarray
    repeats: int
    inner: int
    rewarded: int


ADD: dict[str, Callable[[Any, Any], Any]] = {
    name: np.minimum if name.endswith("_low") else np.maximum if name.endswith("_high") else lambda a, b: a + b
    for name in Sums._fields
}


def measure(block: Block, hashes: Hashes) -> tuple[Episodes, Sums]:
    """What a block of faultless episodes adds."""
    flat = block.flat
    length, action, reward = flat["length"], flat["action"], flat["reward"]
    first_step, first_row, rows = starts(length), starts(length + 1), hashes.rows
    row = pair(_agents(hashes.obs), hashes.state)
    last = first_row + length
    same = row[rows] == row[rows + 1]
    zeros = np.zeros((1, 1, flat["obs"].shape[2]), np.float32), np.zeros((1, flat["state"].shape[1]), np.float32)
    zero = pair(_agents(np.repeat(hash_rows(zeros[0]), action.shape[1], axis=1)), hash_rows(zeros[1]))
    legal = flat["avail"][rows]
    single = legal.sum(axis=-1) == 1
    ends = first_step + length - 1
    episodes = Episodes(
        number=block.first + np.arange(len(length)),
        returns=np.add.reduceat(reward.astype(np.float64), first_step),
        length=length,
        won=flat["won"],
        ended=flat["terminal"][ends],
        digest=_digest(block, hashes, row),
        zero_final=row[last] == zero,
        repeated_final=same[ends],
        forced=_forced(single, length),
    )
    return episodes, _sums(block, legal, single, same, ends)


def _sums(block: Block, legal: np.ndarray, single: np.ndarray, same: np.ndarray, ends: np.ndarray) -> Sums:
    flat = block.flat
    n_agents, n_actions = legal.shape[1:]
    key = flat["action"] + n_actions * np.arange(n_agents)
    obs, state = (_extremes(flat["obs"]), _extremes(flat["state"]))
    return Sums(
        taken=np.bincount(key.ravel(), minlength=n_agents * n_actions).reshape(n_agents, n_actions),
        legal=legal.sum(axis=(0, 1)),
        choices=(~single).sum(axis=0),
        obs_low=obs[0],
        obs_high=obs[1],
        state_low=state[0],
        state_high=state[1],
        large_obs=_large(flat["obs"], *obs).any(axis=1).sum(axis=0),
        large_state=_large(flat["state"], *state).sum(axis=0),
        repeats=int(same.sum() - same[ends].sum()),
        inner=len(same) - len(ends),
        rewarded=int((flat["reward"] != 0).sum()),
    )


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.min(axis=0), values.max(axis=0)


def _large(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A mask of values beyond `LARGE`; one false row where no extreme says that there are any."""
    if max(-low.min(initial=0), high.max(initial=0)) <= LARGE:
        return np.zeros((1, *values.shape[1:]), bool)
    return np.abs(values) > LARGE


def _agents(hashes: np.ndarray) -> np.ndarray:
    """One hash for all agents' observations: (R, N) to (R,)."""
    return reduce(pair, hashes.T, np.zeros(len(hashes), np.uint64))


def _digest(block: Block, hashes: Hashes, row: np.ndarray) -> np.ndarray:
    """A hash of each episode's rows, actions, rewards and ends in their order."""
    flat = block.flat
    length = flat["length"]
    step = np.arange(length.sum()) - np.repeat(starts(length), length)
    outcome = pair(hash_rows(flat["reward"][:, None]), flat["terminal"].astype(np.uint64))
    content = pair(pair(row[hashes.rows], hashes.action), pair(outcome, mix(step)))
    final = row[starts(length + 1) + length]
    return pair(np.add.reduceat(content, starts(length)), final)


def _forced(single: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Steps at the end of each episode from which on an agent has one legal action: (M, N) to (E, N)."""
    step = np.arange(len(single)) - np.repeat(starts(length), length)
    free = np.where(single, -1, step[:, None])
    return length[:, None] - 1 - np.maximum.reduceat(free, starts(length), axis=0)


def join(parts: Iterable[Episodes]) -> Episodes:
    """The episodes of all blocks."""
    return Episodes(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def add(a: Sums, b: Sums) -> Sums:
    """The sums of two blocks."""
    return Sums(**{name: join(getattr(a, name), getattr(b, name)) for name, join in ADD.items()})
