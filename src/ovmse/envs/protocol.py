"""The two shapes of environment: one that JAX can compile, one that runs on the host."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse.core.types import EnvSpec, EnvState, Observation, StepResult


@runtime_checkable
class Environment(Protocol):
    """A JAX environment: pure functions, so the whole training loop compiles with it.

    There is no automatic reset: after a terminal or truncated step the caller stops using the state.
    """

    spec: EnvSpec

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Observation]:
        """A first state and what the team sees of it."""
        ...

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Int[Array, " N"]
    ) -> tuple[EnvState, Observation, StepResult]:
        """The state after the joint action, what the team sees of it, and what the action led to."""
        ...


@runtime_checkable
class HostEnvironment(Protocol):
    """An environment that runs in Python, one episode at a time; arrays are NumPy's."""

    spec: EnvSpec

    def reset_host(self, seed: int) -> Observation:
        """Start an episode; equal seeds start equal episodes."""
        ...

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly with `action` (int, shape (N,))."""
        ...


AnyEnvironment = Environment | HostEnvironment


def is_host(env: AnyEnvironment) -> bool:
    """Whether the environment runs on the host, outside the compiled loop."""
    return hasattr(env, "step_host")
