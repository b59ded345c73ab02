"""One gradient update on a batch drawn from the replay and the dataset, computed in groups of lanes."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.learning import learner as learning
from ovmse.learning.batches import Data, draw, read
from ovmse.learning.learner import Learner, Metrics, Objective
from ovmse.learning.lengths import group_size, lane_count
from ovmse.learning.packing import pack, places
from ovmse.learning.parallel import CORES_PER_SEED, max_over_seeds, over_cores
from ovmse.learning.replay import Replay


def update(
    config: Config,
    spec: EnvSpec,
    objective: Objective,
    learner: Learner,
    replay: Replay,
    data: Data | None,
    key: PRNGKeyArray,
    choices: list[int],
) -> tuple[Learner, Metrics, Float[Array, " E"] | None]:
    """One gradient update on episodes from the replay, a share of them from the dataset instead.

    The episodes are laid into lanes, and the gradient is summed over groups of lanes, each computed at the shortest of
    the lengths in `choices` (ascending) that holds it. The last result is the dataset's new priorities.
    """
    *k_draw, k_loss = jax.random.split(key, 4)
    drawn, lengths = draw(config, replay, data, k_draw)
    lanes = lane_count(config.batch_episodes, spec.n_agents, objective.whole_episodes)
    group = group_size(config.batch_episodes, spec.n_agents)
    order, packed = pack(lengths, lanes)
    drawn = jax.tree.map(lambda x: x[order], drawn)

    def part(lanes: Int[Array, " G"], key: PRNGKeyArray) -> tuple[PyTree, Float[Array, " G"]]:
        def at(steps: int) -> Callable[[], tuple[PyTree, Float[Array, " G"]]]:
            def compute() -> tuple[PyTree, Float[Array, " G"]]:
                batch = read(replay, data, drawn, places(packed, lanes, steps))
                gradients, losses, priority = learning.gradient(
                    config.learner, objective, learner, batch, key, lengths.sum()
                )
                return (gradients, losses), priority

            return compute

        needed = max_over_seeds(packed.rows[lanes].max() - 1)
        return jax.lax.switch(jnp.searchsorted(jnp.asarray(choices), needed), [at(steps) for steps in choices])

    by_group = jnp.arange(lanes).reshape(-1, group), jax.random.split(k_loss, lanes // group)
    parts = jax.tree.map(lambda x: x[in_shares(lanes // group)], by_group)
    no_gradient = jax.tree.map(jnp.zeros_like, learner.team)
    nothing = no_gradient, learning.no_losses(jax.tree.leaves(no_gradient)[0].dtype)
    (gradients, losses), priorities = sum_over(part, parts, nothing)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
    metrics = Metrics(losses, norm)
    updated = learning.apply(config.learner, learner, gradients, losses.target_square)
    if data is None or data.priority is None:
        return updated, metrics, None
    # an episode of the replay writes beyond the end, which is left undone; each episode lies in a lane of its own
    _, data_slots, from_data = drawn
    assert data_slots is not None and from_data is not None and objective.whole_episodes
    where = jnp.where(from_data, data_slots, len(data.priority))[parts[0].reshape(-1)]
    renewed = data.priority.at[where].set(priorities.reshape(-1), mode="drop")
    return updated, metrics, renewed


def in_shares(groups: int) -> Int[np.ndarray, "S P"]:
    """The groups as shares that a core each can compute: dealt out there and back, since the first are the longest."""
    shares = math.gcd(groups, CORES_PER_SEED)
    dealt = np.arange(groups).reshape(-1, shares)
    dealt[1::2] = dealt[1::2, ::-1]
    return dealt.T


def sum_over(
    function: Callable[..., tuple[PyTree, PyTree]], parts: tuple[PyTree, ...], nothing: PyTree
) -> tuple[PyTree, PyTree]:
    """Over both leading axes of a function's arguments: `nothing` plus its first results; its second results stacked.

    Each share (the first axis) is summed by itself, whoever computes it, so that the sum has the same bits on one core
    as on two. What is summed goes from core to core as one vector.
    """
    together = ravel_pytree(nothing)[1]

    def one(total: PyTree, part: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        first, second = function(*part)
        return jax.tree.map(jnp.add, total, first), second

    def share(parts: tuple[PyTree, ...]) -> tuple[Float[Array, " V"], PyTree]:
        total, second = jax.lax.scan(one, nothing, parts)
        return ravel_pytree(total)[0], second

    sums, second = over_cores(lambda shares: jax.lax.map(share, shares), parts)
    return together(sums.sum(axis=0)), second
