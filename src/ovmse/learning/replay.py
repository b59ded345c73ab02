"""The replay: episodes in one flat ring of rows, so that it holds steps and not padding.

An episode of n steps takes n + 1 rows (the last holds the final observation). It is written as one padded block whose
tail the next block overwrites. Positions count on for ever; the row of a position is its remainder by the ring's size.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

from ovmse.core.types import EnvSpec, Episode, Flat, action_dtype

BLOCK = 32  # episodes for which something beside their rows is computed at once


class Rows(NamedTuple):
    """The steps of all episodes, one row each; a final row's action, reward and terminal mean nothing."""

    obs: Float[Array, "R N O"]
    state: Float[Array, "R S"]
    avail: Bool[Array, "R N A"]
    action: UInt[Array, "R N"]
    reward: Float[Array, " R"]
    terminal: Bool[Array, " R"]


class Index(NamedTuple):
    """Where the episodes lie.

    start: position of the first row of the episode in each slot; length: its steps; won: whether it was won.
    Episode k sits in slot k mod E. Episodes oldest … written − 1 are there. head: the position of the next one.
    """

    start: Int[Array, " E"]
    length: Int[Array, " E"]
    won: Bool[Array, " E"]
    oldest: Int[Array, ""]
    written: Int[Array, ""]
    head: Int[Array, ""]


class Replay(NamedTuple):
    """Stored episodes and what is remembered beside each of their steps."""

    rows: Rows
    offline_value: Float[Array, " R"]
    index: Index  # type: ignore[assignment]  # not tuple.index


def row_bytes(spec: EnvSpec) -> int:
    """Bytes of one stored row, its memory included."""
    n, a = spec.n_agents, spec.n_actions
    return 4 * (n * spec.obs_size + spec.state_size) + n * a + n * action_dtype(a).itemsize + 4 + 1 + 4


def size_of(spec: EnvSpec, env_steps: int) -> int:
    """Rows of a replay for the last `env_steps` steps, if episodes last 8 steps or more; every one has a final row."""
    return env_steps + env_steps // min(8, spec.episode_limit) + spec.episode_limit + 1


def empty(spec: EnvSpec, size: int) -> Replay:
    """A replay of so many rows (see `size_of`)."""
    n, a = spec.n_agents, spec.n_actions
    rows = Rows(
        obs=jnp.zeros((size, n, spec.obs_size)),
        state=jnp.zeros((size, spec.state_size)),
        avail=jnp.zeros((size, n, a), bool),
        action=jnp.zeros((size, n), action_dtype(a)),
        reward=jnp.zeros((size,)),
        terminal=jnp.zeros((size,), bool),
    )
    slots = (size // 2,)  # an episode takes at least two rows
    start, length, oldest, written, head = (jnp.zeros(x, jnp.int32) for x in (slots, slots, (), (), ()))
    index = Index(start, length, jnp.zeros(slots, bool), oldest, written, head)
    return Replay(rows, jnp.zeros((size,)), index)


def rows_in_use(index: Index, size: int, limit: int) -> int:
    """How many of a ring's `size` rows were ever written, in episodes of at most `limit` steps (on the host)."""
    return min(size, int(index.head) + limit + 1)


def first_rows(replay: Replay, count: int) -> Replay:
    """A replay without the rows from `count` on."""
    rows, memory = jax.tree.map(lambda ring: ring[:count], (replay.rows, replay.offline_value))
    return Replay(rows, memory, replay.index)


def with_size(replay: Replay, size: int) -> Replay:
    """A replay of so many rows, zeros after those it has. One that gets more slots may not have dropped an episode."""

    def pad(ring: Array, size: int) -> Array:
        return jnp.concatenate([ring, jnp.zeros((size - len(ring), *ring.shape[1:]), ring.dtype)])

    rows, memory = jax.tree.map(lambda ring: pad(ring, size), (replay.rows, replay.offline_value))
    slots = {name: pad(getattr(replay.index, name), size // 2) for name in ("start", "length", "won")}
    return Replay(rows, memory, replay.index._replace(**slots))


def insert(replay: Replay, episode: Episode, memory: Float[Array, " T"], won: Bool[Array, ""] | bool = False) -> Replay:
    """Add an episode, dropping the oldest ones whose rows it needs."""
    block = episode.valid.shape[0] + 1
    size, index = replay.offline_value.shape[0], replay.index
    length = episode.valid.sum(dtype=jnp.int32)
    room = size - index.head % size
    head = index.head + jnp.where(room < block, room, 0)  # no block wraps around the end

    def write(ring: Array, values: Array) -> Array:
        padded = jnp.pad(values.astype(ring.dtype), [(0, block - values.shape[0])] + [(0, 0)] * (values.ndim - 1))
        return jax.lax.dynamic_update_slice_in_dim(ring, padded, head % size, axis=0)

    rows = Rows(*(write(ring, getattr(episode, name)) for name, ring in zip(Rows._fields, replay.rows, strict=True)))
    slots = index.start.shape[0]
    start = index.start.at[index.written % slots].set(head)
    in_slots = index.written + 1 - slots  # older episodes have lost their slot

    def overwritten(oldest: Int[Array, ""]) -> Bool[Array, ""]:
        return (oldest < index.written) & (start[oldest % slots] + size < head + block)

    return Replay(
        rows,
        write(replay.offline_value, memory),
        Index(
            start=start,
            length=index.length.at[index.written % slots].set(length),
            won=index.won.at[index.written % slots].set(won),
            oldest=jax.lax.while_loop(overwritten, lambda oldest: oldest + 1, jnp.maximum(index.oldest, in_slots)),
            written=index.written + 1,
            head=head + length + 1,
        ),
    )


def insert_all(replay: Replay, episodes: Episode, memory: Float[Array, "B T"], won: Bool[Array, " B"]) -> Replay:
    """Add episodes stacked on a leading axis, in order."""
    return jax.lax.scan(lambda r, x: (insert(r, *x), None), replay, (episodes, memory, won))[0]


def draw(
    index: Index, key: PRNGKeyArray, episodes: int, priority: Float[Array, " E"] | None = None
) -> Int[Array, " B"]:
    """The slots of episodes drawn with replacement: uniformly, or where every slot is in use by their priority ≥ 0."""
    if priority is not None:
        ends = jnp.cumsum(priority)
        drawn = jnp.searchsorted(ends, jax.random.uniform(key, (episodes,)) * ends[-1], side="right")
        return jnp.minimum(drawn, len(priority) - 1)
    return jax.random.randint(key, (episodes,), index.oldest, index.written) % index.start.shape[0]


def as_episode(rows: Rows, valid: Bool[Array, "*any T"]) -> Episode:
    """Rows [..., T + 1] as an episode: the last one is the end of the last step."""
    steps = valid.shape[-1]
    return Episode(
        obs=rows.obs,
        state=rows.state,
        avail=rows.avail,
        action=rows.action[..., :steps, :].astype(jnp.int32),
        reward=rows.reward[..., :steps],
        terminal=rows.terminal[..., :steps],
        valid=valid,
    )


def read(replay: Replay, slot: Int[Array, ""], steps: int) -> tuple[Episode, Float[Array, " T"]]:
    """The first `steps` steps of the episode in a slot and the memory beside them; past its end nothing is valid."""
    first = replay.index.start[slot] % replay.offline_value.shape[0]

    def cut(ring: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(ring, first, steps + 1, axis=0)

    rows, offline_value = jax.tree.map(cut, (replay.rows, replay.offline_value))
    return as_episode(rows, jnp.arange(steps) < replay.index.length[slot]), offline_value[:steps]


def read_all(replay: Replay, slots: Int[Array, " B"], steps: int) -> tuple[Episode, Float[Array, "B T"]]:
    """`read` for several slots: episodes and memory with a leading axis B."""
    return jax.vmap(lambda slot: read(replay, slot, steps))(slots)


def rows_of(replay: Replay, slot: Int[Array, "*any"], row: Int[Array, "*any"]) -> tuple[Rows, Float[Array, "*any"]]:
    """Single rows, each the so-manieth of the episode in a slot, and the memory beside them."""
    at = replay.index.start[slot] % replay.offline_value.shape[0] + row
    return jax.tree.map(lambda ring: ring.at[at].get(mode="promise_in_bounds"), (replay.rows, replay.offline_value))


def picked(data: Replay, episodes: slice | Int[Array, " K"]) -> Replay:
    """Some episodes of a replay that is full, by their slots and as often as named, over the same rows."""
    start, length, won = (x[episodes] for x in (data.index.start, data.index.length, data.index.won))
    index = data.index._replace(start=start, length=length, won=won, written=jnp.int32(len(start)))
    return data._replace(index=index)


def beside(data: Replay, ring: Array, compute: Callable[[Episode], Array], steps: int) -> Array:
    """What a function gives for every step (or row) of every episode of a full replay, written beside its rows.

    ring: an array to write into, a number (or several) per row. The episodes are computed at `steps` steps, in blocks.
    """
    episodes = data.index.start.shape[0]

    def block(ring: Array, first: Int[Array, ""]) -> tuple[Array, None]:
        slots = jnp.minimum(first + jnp.arange(BLOCK), episodes - 1)
        values = jax.vmap(compute)(read_all(data, slots, steps)[0]).astype(ring.dtype)

        def write(ring: Array, x: tuple[Array, Array]) -> tuple[Array, None]:
            # in order of rows: what lies past an episode's end is overwritten by the next
            return jax.lax.dynamic_update_slice_in_dim(ring, x[1], data.index.start[x[0]], axis=0), None

        return jax.lax.scan(write, ring, (slots, values))[0], None

    return jax.lax.scan(block, ring, jnp.arange(0, episodes, BLOCK))[0]


def from_flat(flat: Flat, spec: EnvSpec) -> Replay:
    """The arrays of a dataset as a replay that is full: it is only read, and nothing is remembered beside it yet.

    The arrays are NumPy's, aligned so that `jax.device_put` may use them where they are.
    """
    lengths, limit = flat["length"], spec.episode_limit
    size = int(lengths.sum()) + len(lengths) + limit + 1
    last = np.cumsum(lengths + 1) - 1  # every episode's final row, which has no action, reward or end
    step_rows = np.delete(np.arange(last[-1] + 1), last)

    def at(rows: np.ndarray | slice, values: np.ndarray) -> Any:
        out = aligned((size, *values.shape[1:]), values.dtype)
        out[rows] = values
        return out

    filled = slice(0, last[-1] + 1)
    rows = Rows(
        obs=at(filled, flat["obs"]),
        state=at(filled, flat["state"]),
        avail=at(filled, flat["avail"]),
        action=at(step_rows, flat["action"].astype(action_dtype(spec.n_actions))),
        reward=at(step_rows, flat["reward"]),
        terminal=at(step_rows, flat["terminal"]),
    )
    index: Any = {
        "start": (last - lengths).astype(np.int32),
        "length": lengths.astype(np.int32),
        "won": np.array(flat["won"]),
        "oldest": np.int32(0),
        "written": np.int32(len(lengths)),
        "head": np.int32(last[-1] + 1),
    }
    return Replay(rows, at(slice(0), np.zeros(0, np.float32)), Index(**index))


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes."""
    count = math.prod(shape) * dtype.itemsize
    raw = np.zeros(count + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + count].view(dtype).reshape(shape)


def to_flat(replay: Replay, episodes: range) -> Flat:
    """The episodes in those slots as the arrays of a dataset."""
    index = replay.index
    start, length, won = (np.asarray(x)[list(episodes)] for x in (index.start, index.length, index.won))
    start = start % len(replay.offline_value)
    rows = np.concatenate([np.arange(s, s + n + 1) for s, n in zip(start, length, strict=True)])
    steps = np.delete(rows, np.cumsum(length + 1) - 1)
    obs, state, avail, action, reward, terminal = (np.asarray(ring) for ring in replay.rows)
    return Flat(
        obs=obs[rows],
        state=state[rows],
        avail=avail[rows],
        action=action[steps],
        reward=reward[steps],
        terminal=terminal[steps],
        length=length,
        won=won,
    )
