"""Evaluation: how good a team is when it explores no more."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ovmse.config import Config
from ovmse.learning.parallel import SeedBatches, join, padded_seeds, split
from ovmse.learning.play import Actor, CollectFn, begin
from ovmse.learning.rollout import Rollout, alike


class Scores(NamedTuple):
    """One number per evaluated episode (leading axis B, or seeds and B); measures: see `Rollout`."""

    returns: Float[Array, "*seeds B"]
    won: Bool[Array, "*seeds B"]
    length: Int[Array, "*seeds B"]
    measures: dict[str, Float[np.ndarray, "*seeds B"]] = {}  # never written to


def scores(rollout: Rollout) -> Scores:
    """Undiscounted return, win and length of each episode."""
    return Scores(rollout.episodes.reward.sum(axis=-1), rollout.won, rollout.episodes.valid.sum(axis=-1))


def scores_and_measures(rollout: Rollout) -> Scores:
    """The scores of each episode and, untouched by the device, its measures."""
    return _scores(rollout._replace(measures={}))._replace(measures=rollout.measures)


def evaluate(
    config: Config,
    collect_episodes: CollectFn,
    teams: SeedBatches,
    keys: SeedBatches,
    tell: Callable[[float], object] = lambda share: None,
) -> Scores:
    """Greedy scores of `config.evaluate_episodes` episodes of every seed, axes [seed, episode]; equal keys give equal
    episodes, whatever number of them is played side by side. tell: called with the share that is played."""
    # steps of no meaning, on the devices where training has them: else the same program would be compiled twice
    steps = split(np.zeros(padded_seeds(config.seeds), np.int32), config.seeds)
    actors = [Actor(*actor) for actor in zip(teams, keys, steps, steps, strict=True)]
    turns = range(-(-config.evaluate_episodes // config.episodes_per_collect))
    begun, blocks = [begin(collect_episodes, actors, turn, 0.0) for turn in turns], []
    for finish in begun:
        blocks.append([scores_and_measures(played) for played in finish()])
        tell(len(blocks) / len(begun))
    joined = alike([join(alike(block)) for block in blocks])
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1)[:, : config.evaluate_episodes], *joined)


_scores = jax.jit(scores)
