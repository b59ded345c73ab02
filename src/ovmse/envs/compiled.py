"""What adapters of environments in JAX share: types that stay, rows of unlike agents, one reward of many, packages."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ovmse.core.errors import UserError
from ovmse.core.padding import padded
from ovmse.core.types import EnvState
from ovmse.envs.contained import quiet


def strongly_typed(state: EnvState) -> EnvState:
    """Without weak types: many libraries have them in other leaves after reset than after a step."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), state)


def stacked(rows: Sequence[Shaped[Array, "..."]], size: int) -> Float[Array, "N {size}"]:
    """One flat row of `size` features per agent; shorter ones end in zeros."""
    return padded([jnp.asarray(row, jnp.float32).ravel() for row in rows], size, jnp)


def combined(rewards: Shaped[Array, "..."], how: str) -> Float[Array, ""]:
    """The team's reward: the ``sum`` or ``mean`` of the agents', or the one that there is."""
    return (jnp.sum if how == "sum" else jnp.mean)(jnp.asarray(rewards, jnp.float32))


def imported(name: str, module: str, install: str) -> Any:
    """A library's module, without what it prints. Raises `UserError` where it is not there; name: the environment's."""
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{name} needs the package {error.name or module!r}: {install}.") from error
