"""The usual ways to explore, as parts of a method: the formulas of `ovmse.core.action_selection` with schedules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse.core import action_selection
from ovmse.core.schedules import Schedule, check_schedule
from ovmse.methods.signatures import ActionInputs


@runtime_checkable
class HasEpsilon(Protocol):
    """An exploration whose rate ε is a schedule of progress, which metrics show."""

    @property
    def epsilon(self) -> Callable[[float], Float[Array, ""]]: ...


@runtime_checkable
class ActsWithoutJax(Protocol):
    """An exploration that a process without JAX can act by, so that workers can play whole episodes (`--workers`)."""

    def rule(self, progress: float, n_agents: int) -> tuple[str, float]:
        """The name of a rule of `ovmse.policy.player`, and its ε at a share of the online budget that is spent."""


@dataclass(frozen=True)
class _Exploration:
    epsilon: Schedule

    def __post_init__(self) -> None:
        check_schedule("ε", self.epsilon)
        self.epsilon.check_within("ε", 0.0, 1.0)


@dataclass(frozen=True)
class EpsilonGreedy(_Exploration):
    """ε-greedy: each agent on its own acts at random with probability ε, else by its highest utility.

    Args:
        epsilon: the schedule of ε over the online budget, within [0, 1].

    Raises:
        UserError: where ε is no schedule, or leaves [0, 1].
    """

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        return action_selection.epsilon_greedy(key, inputs.q, inputs.avail, self.epsilon(inputs.progress))

    def rule(self, progress: float, n_agents: int) -> tuple[str, float]:
        """See `ActsWithoutJax`."""
        return "epsilon_greedy", float(self.epsilon(progress))


@dataclass(frozen=True)
class _SharedExploration(_Exploration):
    per_agent: bool = False

    def step_epsilon(self, progress: Float[Array, ""] | float, n_agents: int) -> Float[Array, ""]:
        """The ε of a step: that of the schedule, or N times as much, at most 1, where it is each agent's."""
        epsilon = self.epsilon(progress)
        return jnp.minimum(1.0, n_agents * epsilon) if self.per_agent else epsilon


@dataclass(frozen=True)
class Sequential(_SharedExploration):
    """Sequential Exploration (OVMSE, Zhong et al. 2024): with probability ε one agent acts at random, others greedily.

    The agents share a seed per episode, so that each derives without a message whether it is its turn.

    Args:
        epsilon: the schedule of ε over the online budget, within [0, 1]; each agent's own rate is ε/N.
        per_agent: ε is each agent's own rate, as that of `EpsilonGreedy` is: a step has an explorer with probability
            min(1, Nε), since no more than one agent explores at a time.

    Raises:
        UserError: where ε is no schedule, or leaves [0, 1].
    """

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        epsilon = self.step_epsilon(inputs.progress, inputs.q.shape[0])
        return action_selection.sequential(key, inputs.q, inputs.avail, epsilon)

    def rule(self, progress: float, n_agents: int) -> tuple[str, float]:
        """See `ActsWithoutJax`."""
        return "sequential", float(self.step_epsilon(progress, n_agents))


@dataclass(frozen=True)
class Independent(_SharedExploration):
    """Sequential exploration without the shared seed: each agent explores alone, with probability ε/N.

    Args:
        epsilon: the schedule of ε over the online budget, within [0, 1].
        per_agent: ε is each agent's own rate, at most 1/N, as `Sequential` understands it.

    Raises:
        UserError: where ε is no schedule, or leaves [0, 1].
    """

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        epsilon = self.step_epsilon(inputs.progress, inputs.q.shape[0])
        return action_selection.independent(key, inputs.q, inputs.avail, epsilon)

    def rule(self, progress: float, n_agents: int) -> tuple[str, float]:
        """See `ActsWithoutJax`."""
        return "epsilon_greedy", float(self.step_epsilon(progress, n_agents)) / n_agents


@dataclass(frozen=True)
class Sample:
    """Each agent draws from its policy: the softmax of what the team plays by, over the legal actions."""

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        return jax.random.categorical(key, jnp.where(inputs.avail, inputs.q, -jnp.inf), axis=-1)

    def rule(self, progress: float, n_agents: int) -> tuple[str, float]:
        """See `ActsWithoutJax`."""
        return "sample", 0.0


def own_utilities(inputs: ActionInputs) -> Float[Array, "N A"]:
    """The learning team plays as it is."""
    return inputs.q
