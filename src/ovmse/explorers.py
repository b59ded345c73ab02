"""The usual ways to explore, as parts of a method: the formulas of `ovmse.explore` with their schedules."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse import explore
from ovmse.context import Sight
from ovmse.schedules import Schedule, check_schedule


@dataclass(frozen=True)
class _Exploration:
    epsilon: Schedule

    def __post_init__(self) -> None:
        check_schedule("ε", self.epsilon)
        self.epsilon.check_within("ε", 0.0, 1.0)


@dataclass(frozen=True)
class EpsilonGreedy(_Exploration):
    """Each agent on its own acts at random with probability ε = epsilon(progress)."""

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        return explore.epsilon_greedy(key, sight.q, sight.avail, self.epsilon(sight.progress))


@dataclass(frozen=True)
class Sequential(_Exploration):
    """Sequential Exploration: with probability ε = epsilon(progress) one agent acts at random, the others greedily."""

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        return explore.sequential(key, sight.q, sight.avail, self.epsilon(sight.progress))


@dataclass(frozen=True)
class Independent(_Exploration):
    """Each agent explores alone with probability ε/N: sequential exploration without the shared seed."""

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        return explore.independent(key, sight.q, sight.avail, self.epsilon(sight.progress))


@dataclass(frozen=True)
class Sample:
    """Each agent draws from its policy: the softmax of what the team plays by, over the legal actions."""

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        return jax.random.categorical(key, jnp.where(sight.avail, sight.q, -jnp.inf), axis=-1)
