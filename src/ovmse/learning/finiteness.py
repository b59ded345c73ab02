"""Guards on the numbers of a run: what is not finite, or beyond all bounds, halts the learning within one update.

A halt keeps everything as it was before the update that went wrong, and that update's key, so that it can be looked at
again (`ovmse.training.failure_report`).
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree, UInt32

from ovmse.core.types import Episode
from ovmse.core.values import Scalar
from ovmse.learning.learner import Metrics

CAUSES = ("", "play", "loss", "gradient", "limit", "parameters")
"""By number: nothing, what was played, the loss, the gradient, a loss beyond the limit, or what became of the team."""

Tree = TypeVar("Tree", bound=PyTree)


class Halt(NamedTuple):
    """What put an end to learning. cause: a place in `CAUSES`; key: the data of the key of the update not done."""

    cause: Int[Array, ""]
    key: UInt32[Array, " K"]


def no_halt() -> Halt:
    """All is well."""
    return Halt(jnp.zeros((), jnp.int32), jnp.zeros_like(jax.random.key_data(jax.random.key(0))))


def after_play(halt: Halt, episodes: Episode) -> Halt:
    """The halt after an environment's episodes (leading axis B): their valid part must be finite."""
    steps = episodes.valid[..., None]
    rows = jnp.concatenate([steps[:, :1], steps], axis=1)
    good = jnp.isfinite(jnp.where(episodes.valid, episodes.reward, 0.0)).all()
    good &= jnp.isfinite(jnp.where(rows, episodes.state, 0.0)).all()
    good &= jnp.isfinite(jnp.where(rows[..., None], episodes.obs, 0.0)).all()
    return halt._replace(cause=_first(halt.cause, jnp.where(good, 0, CAUSES.index("play"))))


def after_update(halt: Halt, metrics: Metrics, team: PyTree, limit: Scalar, key: PRNGKeyArray) -> Halt:
    """The halt after an update with these metrics that led to this team; the first cause stays."""
    loss, norm = metrics.losses.loss, metrics.grad_norm
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(team)]).all()
    cause = jnp.where(finite, 0, CAUSES.index("parameters"))
    cause = jnp.where(jnp.abs(loss) > limit, CAUSES.index("limit"), cause)
    cause = jnp.where(jnp.isfinite(norm), cause, CAUSES.index("gradient"))
    cause = jnp.where(jnp.isfinite(loss), cause, CAUSES.index("loss"))
    new = (halt.cause == 0) & (cause > 0)
    return Halt(_first(halt.cause, cause), jnp.where(new, jax.random.key_data(key), halt.key))


def unless_halted(halt: Halt, new: Tree, old: Tree) -> Tree:
    """`new` while all is well, else `old`."""
    return jax.tree.map(lambda a, b: jnp.where(is_well(halt), a, b), new, old)


def is_well(halt: Halt) -> Bool[Array, ""]:
    """Whether learning goes on."""
    return halt.cause == 0


def _first(before: Int[Array, ""], now: Int[Array, ""]) -> Int[Array, ""]:
    return jnp.where(before > 0, before, now).astype(jnp.int32)
