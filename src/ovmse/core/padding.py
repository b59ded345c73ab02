"""Unlike agents as one team: what an agent lacks is padded and masked here alone, and known again by `present`.

An agent that has fewer features or actions than another sees zeros after its own, and the actions after its own are
never legal. One that is out of play (dead, gone, or not there yet) sees zeros and has one legal action, which does
nothing. Axes: N agents, O features and A actions of those that have most; in front any others.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ovmse.core.errors import UserError

NO_OP = 0
"""The one legal action of an agent that is out of play."""


def padded(own: Sequence[Any], size: int, numpy: Any = np) -> Any:
    """Each agent's features [..., O_i], or masks [..., A_i], as one array [..., N, size]: zeros after its own.

    numpy: ``jax.numpy`` for arrays of JAX. Raises `UserError` for a row that is longer than `size`.
    """
    for i, x in enumerate(own):
        if x.shape[-1] > size:
            most = f"at most {size} features, or actions, as told before"
            raise UserError(f"agent {i}: expected {most}; got {x.shape[-1]}.")
    wide = [numpy.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])]) for x in own]
    return numpy.stack(wide, axis=-2)


def own_actions(actions: Sequence[Collection[int]], n_actions: int) -> np.ndarray:
    """The actions that each agent has at all, as a mask [N, A]."""
    return np.array([np.isin(np.arange(n_actions), list(own)) for own in actions])


def out_of_play(obs: np.ndarray, avail: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [..., N, O] and masks [..., N, A] in which absent agents [..., N] see zeros and can do nothing."""
    no_op = np.arange(avail.shape[-1]) == NO_OP
    return np.where(absent[..., None], 0, obs), np.where(absent[..., None], no_op, avail)


def has_choice(avail: Any) -> Any:
    """Whether each agent has two legal actions or more, bool [..., N], as one that is dead or gone has not; by masks
    [..., N, A] of NumPy or JAX."""
    return avail.sum(axis=-1) > 1


def present(obs: Any, avail: Any) -> Any:
    """Whether each agent is in play, bool [..., N], by arrays of NumPy or JAX: it sees anything, or has a choice."""
    return (obs != 0).any(axis=-1) | has_choice(avail)
