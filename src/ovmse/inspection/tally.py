"""A dataset added up: what every block of episodes contributes to the profile and to the search for oddities.

Axes: E episodes, M steps, R = M + E rows, N agents, A actions, O observation features, S state features.
"""

from collections.abc import Callable, Sequence
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
    length, reward, rows = flat["length"], flat["reward"], hashes.rows
    first_step = starts(length)
    last_step, last_row = first_step + length - 1, starts(length + 1) + length
    step = np.arange(length.sum()) - np.repeat(first_step, length)
    row = pair(reduce(pair, hashes.obs.T, np.zeros(len(hashes.obs), np.uint64)), hashes.state)
    same = row[rows] == row[rows + 1]
    legal = flat["avail"][rows]
    single = legal.sum(axis=-1) == 1
    outcome = pair(hash_rows(reward[:, None]), flat["terminal"].astype(np.uint64))
    content = pair(pair(row[rows], hashes.action), pair(outcome, mix(step)))
    last_choice = np.maximum.reduceat(np.where(single, -1, step[:, None]), first_step, axis=0)
    episodes = Episodes(
        number=block.first + np.arange(len(length)),
        returns=np.add.reduceat(reward.astype(np.float64), first_step),
        length=length,
        won=flat["won"],
        ended=flat["terminal"][last_step],
        digest=pair(np.add.reduceat(content, first_step), row[last_row]),
        zero_final=~(flat["obs"][last_row].any(axis=(1, 2)) | flat["state"][last_row].any(axis=1)),
        repeated_final=same[last_step],
        forced=length[:, None] - 1 - last_choice,
    )
    sums = Sums(
        taken=(flat["action"][..., None] == np.arange(legal.shape[-1])).sum(axis=0),
        legal=legal.sum(axis=(0, 1)),
        choices=(~single).sum(axis=0),
        obs_low=flat["obs"].min(axis=0),
        obs_high=flat["obs"].max(axis=0),
        state_low=flat["state"].min(axis=0),
        state_high=flat["state"].max(axis=0),
        large_obs=(np.abs(flat["obs"]) > LARGE).any(axis=1).sum(axis=0),
        large_state=(np.abs(flat["state"]) > LARGE).sum(axis=0),
        repeats=int(same.sum() - same[last_step].sum()),
        inner=len(same) - len(length),
        rewarded=int((reward != 0).sum()),
    )
    return episodes, sums


def join(parts: Sequence[Any]) -> Any:
    """What all blocks gave, as one: named tuples of arrays, such as `Episodes`."""
    return type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))


def add(a: Sums, b: Sums) -> Sums:
    """The sums of two blocks."""
    return Sums(**{name: join(getattr(a, name), getattr(b, name)) for name, join in ADD.items()})
