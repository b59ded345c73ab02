"""What a batch of an update holds: drawn from the replay and the dataset, and read as lanes of episodes."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.config import Config
from ovmse.learning import replay as replays
from ovmse.learning.learner import Batch
from ovmse.learning.packing import Places
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


def read(replay: Replay, data: Data | None, drawn: Drawn, at: Places) -> Batch:
    """What lies in some lanes of a batch."""
    slots, data_slots, from_data = jax.tree.map(lambda x: x[at.episode], drawn)
    rows, offline_value = replays.rows_of(replay, slots, at.row)
    if data is None or data_slots is None or from_data is None:
        return Batch(replays.as_episode(rows, at.valid), offline_value[:, :-1], jnp.ones(at.valid.shape, bool))

    def pick(theirs: Array, ours: Array) -> Array:
        return jnp.where(from_data.reshape(*from_data.shape, *[1] * (ours.ndim - from_data.ndim)), theirs, ours)

    there = replays.rows_of(data.stored, data_slots, at.row)
    rows, offline_value = jax.tree.map(pick, there, (rows, offline_value))
    batch = Batch(replays.as_episode(rows, at.valid), offline_value[:, :-1], from_data[:, :-1])
    if data.priority is None:
        return batch
    often = data.priority[data_slots] / data.priority.mean()
    return batch._replace(drawn=jnp.where(from_data, often, 1.0)[:, :-1])
