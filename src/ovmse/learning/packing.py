"""A batch's episodes laid end to end in lanes, so that little padding is computed whatever their lengths.

An episode of n steps takes n + 1 rows of its lane: the last holds the final observation, and the step from there to the
next row is not valid, which is how `ovmse.core` knows that another episode begins (see `core.types.Episode`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Packed(NamedTuple):
    """A batch in lanes, lane after lane.

    length: the steps of each episode, in the order in which they lie. rows: the rows in use of each lane, most first.
    """

    length: Int[Array, " B"]
    rows: Int[Array, " L"]


class Places(NamedTuple):
    """What lies at each row of some lanes: which of the batch's episodes as they lie, and which of its rows.

    valid: whether a step of that episode begins there; rows past a lane's end repeat its last one.
    """

    episode: Int[Array, "L T1"]
    row: Int[Array, "L T1"]
    valid: Bool[Array, "L T"]


def pack(length: Int[Array, " B"], lanes: int) -> tuple[Int[Array, " B"], Packed]:
    """The order in which episodes of these lengths lie, and the lanes: each episode, the longest first, is laid into
    the lane that is shortest so far (Graham 1969), so that no lane takes more rows than the longest episodes would that
    are dealt out evenly."""

    def lay(rows: Int[Array, " L"], taken: Int[Array, ""]) -> tuple[Int[Array, " L"], Int[Array, ""]]:
        lane = jnp.argmin(rows)
        return rows.at[lane].add(taken), lane

    longest_first = jnp.argsort(-length)
    rows, lane = jax.lax.scan(lay, jnp.zeros(lanes, jnp.int32), length[longest_first] + 1)
    most_first = jnp.argsort(-rows)
    order = longest_first[jnp.argsort(jnp.argsort(most_first)[lane])]
    return order, Packed(length[order], rows[most_first])


def places(packed: Packed, lanes: Int[Array, " L"], steps: int) -> Places:
    """What lies at the first `steps` + 1 rows of some lanes."""
    ends = jnp.cumsum(packed.length + 1)
    last = packed.rows[lanes][:, None] - 1
    row = jnp.arange(steps + 1)
    at = (jnp.cumsum(packed.rows) - packed.rows)[lanes][:, None] + jnp.minimum(row, last)
    episode = jnp.searchsorted(ends, at, side="right")
    within = at - (ends - packed.length - 1)[episode]
    return Places(episode, within, ((row <= last) & (within < packed.length[episode]))[:, :-1])


def one_by_one(length: Int[Array, " B"], steps: int) -> Places:
    """The places of a batch whose episodes have a lane each, in their own order."""
    row = jnp.arange(steps + 1)
    episode = jnp.broadcast_to(jnp.arange(len(length))[:, None], (len(length), steps + 1))
    return Places(episode, jnp.minimum(row, length[:, None]), row[:-1] < length[:, None])
