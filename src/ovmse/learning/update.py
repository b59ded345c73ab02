"""One gradient update on a batch drawn from the replay and the dataset, computed in groups of about one length."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.learning import learner as learning, replay as replays
from ovmse.learning.learner import Batch, Learner, Metrics, Objective
from ovmse.learning.lengths import group_size
from ovmse.learning.parallel import max_over_seeds
from ovmse.learning.replay import Replay

Drawn = tuple[Int[Array, " B"], Int[Array, " B"] | None, Bool[Array, " B"] | None]
"""What a batch consists of: slots of the replay, slots of the dataset, and whether the latter counts."""


class Data(NamedTuple):
    """The dataset as online batches draw from it: their share of it, and each episode's priority (None: all alike)."""

    stored: Replay
    share: Float[Array, ""]
    priority: Float[Array, " E"] | None


def draw(
    config: Config, replay: Replay, data: Data | None, keys: Sequence[PRNGKeyArray]
) -> tuple[Drawn, Int[Array, " B"]]:
    """What a batch consists of, by three keys, and its episodes' lengths."""
    k_draw, k_data, k_share = keys
    size = config.batch_episodes
    slots = replays.draw(replay.index, k_draw, size)
    lengths = replay.index.length[slots]
    if data is None:
        return (slots, None, None), lengths
    # the share of a batch holds on average, whatever the batch's size
    from_data = (jnp.arange(size) + jax.random.uniform(k_share)) / size < data.share
    data_slots = replays.draw(data.stored.index, k_data, size, data.priority)
    lengths = jnp.where(from_data, data.stored.index.length[data_slots], lengths)
    return (slots, data_slots, from_data), lengths


def read(replay: Replay, data: Data | None, drawn: Drawn, steps: int) -> Batch:
    """A batch's episodes, at so many steps."""
    slots, data_slots, from_data = drawn
    here = replays.read_all(replay, slots, steps)
    if data is None or data_slots is None or from_data is None:
        return Batch(here[0], here[1], jnp.ones(slots.shape, bool))
    there = replays.read_all(data.stored, data_slots, steps)
    pick = jax.vmap(lambda own, a, b: jax.tree.map(lambda x, y: jnp.where(own, x, y), a, b))
    episodes, memory = pick(from_data, there, here)
    if data.priority is None:
        return Batch(episodes, memory, from_data)
    often = data.priority[data_slots] / data.priority.mean()
    return Batch(episodes, memory, from_data, jnp.where(from_data, often, 1.0))


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

    The gradient is summed over groups of episodes of about one length, each computed at the shortest of the lengths in
    `choices` (ascending) that holds it. The last result is the dataset's new priorities.
    """
    *k_draw, k_loss = jax.random.split(key, 4)
    drawn, lengths = draw(config, replay, data, k_draw)
    total = lengths.sum()

    def part(lengths: Int[Array, " G"], drawn: Drawn, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, " G"]]:
        def at(steps: int) -> Callable[[], tuple[PyTree, Float[Array, " G"]]]:
            def compute() -> tuple[PyTree, Float[Array, " G"]]:
                gradients, losses, priority = learning.gradient(
                    config.learner, objective, learner, read(replay, data, drawn, steps), key, total
                )
                return (gradients, losses), priority

            return compute

        which = jnp.searchsorted(jnp.asarray(choices), max_over_seeds(lengths.max()))
        return jax.lax.switch(which, [at(steps) for steps in choices])

    order = jnp.argsort(lengths)
    size, group = config.batch_episodes, group_size(config.batch_episodes, spec.n_agents)
    batch = jax.tree.map(lambda x: x[order].reshape(-1, group), (lengths, drawn))
    parts = (*batch, jax.random.split(k_loss, size // group))
    no_gradient = jax.tree.map(jnp.zeros_like, learner.team)
    nothing = no_gradient, learning.no_losses(jax.tree.leaves(no_gradient)[0].dtype)
    (gradients, losses), priorities = sum_over(part, parts, nothing)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
    metrics = Metrics(losses, norm)
    updated = learning.apply(config.learner, learner, gradients, losses.target_square)
    if data is None or data.priority is None:
        return updated, metrics, None
    # an episode of the replay writes beyond the end, which is left undone
    _, data_slots, from_data = drawn
    assert data_slots is not None and from_data is not None
    where = jnp.where(from_data, data_slots, len(data.priority))[order]
    renewed = data.priority.at[where].set(priorities.reshape(-1), mode="drop")
    return updated, metrics, renewed


def sum_over(
    function: Callable[..., tuple[PyTree, PyTree]], parts: tuple[PyTree, ...], nothing: PyTree
) -> tuple[PyTree, PyTree]:
    """Over the leading axis of a function's arguments: `nothing` plus its first results; its second results stacked."""

    def one(total: PyTree, part: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        first, second = function(*part)
        return jax.tree.map(jnp.add, total, first), second

    return jax.lax.scan(one, nothing, parts)
