"""In how many lanes a batch is computed, and at which few lengths."""

import math
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Int

from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.learning.packing import pack
from ovmse.learning.parallel import batched
from ovmse.learning.replay import Replay
from ovmse.methods.method import Method

SHARES = (0.12, 0.16, 0.22, 0.31, 0.46, 0.7)  # of the longest that a lane can be; each more takes seconds to compile
QUANTILES = (0.45, 0.97)  # of the steps that a dataset's batches need
APART = (0.25, 0.5, 0.75)  # and where each episode has a lane of its own
SHORTER, LONGER = 0.85, (1.15, 1.5)  # than those: as episodes become while a team learns online
SHORT = 24  # steps: lanes of no more are computed at one length
DRAWS = 512  # batches that are drawn to know what they need

GROUP_ROWS = 96  # agents computed at once on a CPU; more than that leave a core's cache
GROUP_EPISODES = 220  # agents of all episodes in the lanes computed at once


def group_size(batch: int, n_agents: int) -> int:
    """How many lanes of a batch are computed at once: all on an accelerator, on a CPU what a core's cache holds.

    The largest divisor of the batch with at most `GROUP_ROWS` agents and a quarter of the batch (more would be computed
    as long as the longest), but not below 4.
    """
    if batched():
        return batch
    divisors = [d for d in range(min(4, batch), batch + 1) if batch % d == 0]
    return max((d for d in divisors if d * n_agents <= GROUP_ROWS and 4 * d <= batch), default=divisors[0])


def lane_count(batch: int, n_agents: int, whole_episodes: bool) -> int:
    """In how many lanes a batch's episodes are laid; where parts need whole episodes and on an accelerator each has its
    own. As few as a core's cache holds the steps of: the lanes of a group have at most `GROUP_EPISODES` agents. An even
    number of groups stays one, so that two cores can share them."""
    if whole_episodes or batched():
        return batch
    group = group_size(batch, n_agents)
    groups = batch // group
    each = [d for d in range(1, groups + 1) if groups % d == 0 and groups // d % 2 == groups % 2]
    return batch // max((d for d in each if d * group * n_agents <= GROUP_EPISODES), default=1)


def longest_lane(config: Config, spec: EnvSpec, method: Method, longest: int) -> int:
    """The steps of the longest lane that a batch can have, if no episode has more than `longest` steps."""
    lanes = lane_count(config.batch_episodes, spec.n_agents, method.whole_episodes)
    return math.ceil(config.batch_episodes / lanes) * (longest + 1) - 1


def offline_lengths(config: Config, spec: EnvSpec, method: Method, data: Replay) -> list[int]:
    """The few lengths at which batches of a dataset are computed: what most of them need, and what is always enough."""
    most = longest_lane(config, spec, method, int(np.max(data.index.length)))
    return worth_compiling(usual_lengths(config, spec, method, data), most)


def online_lengths(config: Config, spec: EnvSpec, method: Method, data: Replay | None = None) -> list[int]:
    """The few lengths at which batches of episodes yet to be played are computed, and what is always enough.

    They are shares of that; or where there is a dataset what its batches need, and steps from there to both sides.
    """
    most = longest_lane(config, spec, method, spec.episode_limit)
    if data is None:
        return worth_compiling([math.ceil(most * share) for share in SHARES], most)
    usual = usual_lengths(config, spec, method, data)
    beyond = [math.ceil(usual[0] * SHORTER), *(math.ceil(usual[-1] * factor) for factor in LONGER)]
    return worth_compiling([*usual, *beyond], most)


def worth_compiling(lengths: list[int], most: int) -> list[int]:
    """The lengths below `most`, and that; that alone where lanes are so short that none of the others would pay."""
    return sorted({*(length for length in lengths if length < most and most > SHORT), most})


def usual_lengths(config: Config, spec: EnvSpec, method: Method, data: Replay) -> list[int]:
    """Quantiles of the steps that the groups of a dataset's batches need."""
    batch = config.batch_episodes
    drawn = np.random.default_rng(0).choice(np.asarray(data.index.length), (DRAWS, batch))
    apart = lane_count(batch, spec.n_agents, method.whole_episodes) == batch
    return [math.ceil(x) for x in np.quantile(needed_steps(config, spec, method, drawn), APART if apart else QUANTILES)]


def needed_steps(
    config: Config, spec: EnvSpec, method: Method, length: Int[np.ndarray, "D B"]
) -> Int[np.ndarray, "D G"]:
    """The steps that each group of lanes needs, of batches whose episodes have these lengths."""
    batch = config.batch_episodes
    lanes, group = lane_count(batch, spec.n_agents, method.whole_episodes), group_size(batch, spec.n_agents)
    return np.asarray(rows_of_lanes(length, lanes))[:, ::group] - 1  # the first lane of a group is its longest


@partial(jax.jit, static_argnums=1)
def rows_of_lanes(length: Int[Array, "D B"], lanes: int) -> Int[Array, "D L"]:
    """The rows of each lane, longest first, of batches whose episodes have these lengths."""
    return jax.vmap(lambda length: pack(length, lanes)[1].rows)(length)
