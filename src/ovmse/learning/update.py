"""One gradient update on a batch drawn from the replay and the dataset, computed in groups of lanes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ovmse.config import Config
from ovmse.core.types import EnvSpec, Episode
from ovmse.learning import learner as learning, replay as replays
from ovmse.learning.learner import Batch, Learner, Metrics, Objective
from ovmse.learning.lengths import group_size, lane_count
from ovmse.learning.packing import Places, first_rows, pack, places
from ovmse.learning.parallel import max_over_seeds
from ovmse.learning.replay import Replay, Rows

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


def read(replay: Replay, data: Data | None, drawn: Drawn, at: Places) -> Batch:
    """What lies in some lanes of a batch."""
    slots, data_slots, from_data = jax.tree.map(lambda x: x[at.episode], drawn)
    rows, offline_value = replays.rows_of(replay, slots, at.row)
    if data is None or data_slots is None or from_data is None:
        return Batch(as_episodes(rows, at.valid), offline_value[:, :-1], jnp.ones(at.valid.shape, bool))

    def pick(theirs: Array, ours: Array) -> Array:
        return jnp.where(from_data.reshape(*from_data.shape, *[1] * (ours.ndim - from_data.ndim)), theirs, ours)

    there = replays.rows_of(data.stored, data_slots, at.row)
    rows, offline_value = jax.tree.map(pick, there, (rows, offline_value))
    batch = Batch(as_episodes(rows, at.valid), offline_value[:, :-1], from_data[:, :-1])
    if data.priority is None:
        return batch
    often = data.priority[data_slots] / data.priority.mean()
    return batch._replace(drawn=jnp.where(from_data, often, 1.0)[:, :-1])


def as_episodes(rows: Rows, valid: Bool[Array, "L T"]) -> Episode:
    """Rows [L, T + 1] as what losses are given: the last row is the end of the last step."""
    action, reward, terminal = (x[:, :-1] for x in (rows.action, rows.reward, rows.terminal))
    return Episode(rows.obs, rows.state, rows.avail, action.astype(jnp.int32), reward, terminal, valid)


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
        longest = places(packed, lanes, choices[-1])

        def at(steps: int) -> Callable[[], tuple[PyTree, Float[Array, " G"]]]:
            def compute() -> tuple[PyTree, Float[Array, " G"]]:
                batch = read(replay, data, drawn, first_rows(longest, steps))
                gradients, losses, priority = learning.gradient(
                    config.learner, objective, learner, batch, key, lengths.sum()
                )
                return (gradients, losses), priority

            return compute

        needed = max_over_seeds(packed.rows[lanes].max() - 1)
        return jax.lax.switch(jnp.searchsorted(jnp.asarray(choices), needed), [at(steps) for steps in choices])

    parts = jnp.arange(lanes).reshape(-1, group), jax.random.split(k_loss, lanes // group)
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
    where = jnp.where(from_data, data_slots, len(data.priority))
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
