"""A method is a value made of a few functions: this file says what they are and offers the usual ones.

Every part is a frozen dataclass: it prints, compares, goes into `config.json`, and changes by `dataclasses.replace`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse import explore, values
from ovmse.errors import UserError
from ovmse.networks import Team
from ovmse.schedules import Schedule, check_schedule, constant
from ovmse.types import Episode

PerStep = Float[Array, " T"]

Loss = Callable[[values.Values, PerStep, Episode, PRNGKeyArray], PerStep]
"""(values, target, episode, key) → the loss of each step."""
Target = Callable[[PerStep, PerStep, Float[Array, ""]], PerStep]
"""(TD target, memory, progress) → what Q_tot regresses onto online."""
Explore = Callable[[PRNGKeyArray, Array, Array, Float[Array, ""]], Int[Array, " N"]]
"""(step's key, utilities [N, A], legal actions [N, A], progress) → a joint action."""
Memory = Callable[[Team, Episode], PerStep]
"""(the team as it left the offline phase, an episode) → what to remember beside each of its steps, computed once."""


@dataclass(frozen=True)
class SquaredError:
    """(Q_tot − y)²."""

    def __call__(self, v: values.Values, target: PerStep, episode: Episode, key: PRNGKeyArray) -> PerStep:
        return (v.q_tot - target) ** 2


@dataclass(frozen=True)
class CQL:
    """(Q_tot − y)² + α · R: conservative Q-learning in one of its three multi-agent forms (see `ovmse.values`).

    alpha: strength α ≥ 0. samples: joint actions drawn per step, for the form ``joint`` alone.
    """

    alpha: float | int = 1.0
    form: Literal["per_agent", "joint", "counterfactual"] = "per_agent"
    samples: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, float | int) or not 0.0 <= self.alpha < float("inf"):
            raise UserError(f"CQL's alpha must be 0 or more; got {self.alpha}.")
        if self.form not in ("per_agent", "joint", "counterfactual"):
            raise UserError(f"unknown form of CQL {self.form!r}; known: per_agent, joint, counterfactual.")
        if self.samples < 1:
            raise UserError(f"CQL's samples must be at least 1; got {self.samples}.")

    def __call__(self, v: values.Values, target: PerStep, episode: Episode, key: PRNGKeyArray) -> PerStep:
        avail, action = episode.avail[:-1], episode.action
        if self.form == "per_agent":
            gap = values.cql_per_agent(v.q, avail, action)
        elif self.form == "counterfactual":
            gap = values.cql_counterfactual(v.weights, v.q, avail, action)
        else:
            gap = values.cql_joint(v.weights, v.q, avail, action, values.sample_joint(key, avail, self.samples))
        return (v.q_tot - target) ** 2 + self.alpha * gap


@dataclass(frozen=True)
class TD:
    """Regress onto the TD target as it is."""

    def __call__(self, target: PerStep, memory: PerStep, progress: Float[Array, ""]) -> PerStep:
        return target


@dataclass(frozen=True)
class Remember:
    """Offline Value Function Memory: y + λ max(0, memory − y), with λ = weight(progress) in [0, 1]."""

    weight: Schedule

    def __post_init__(self) -> None:
        check_schedule("the memory's weight λ", self.weight)
        self.weight.check_within("the memory's weight λ", 0.0, 1.0)

    def __call__(self, target: PerStep, memory: PerStep, progress: Float[Array, ""]) -> PerStep:
        return values.remembered_target(target, memory, self.weight(progress))


@dataclass(frozen=True)
class _Exploration:
    epsilon: Schedule

    def __post_init__(self) -> None:
        check_schedule("ε", self.epsilon)
        self.epsilon.check_within("ε", 0.0, 1.0)


@dataclass(frozen=True)
class EpsilonGreedy(_Exploration):
    """Each agent on its own acts at random with probability ε = epsilon(progress)."""

    def __call__(self, key: PRNGKeyArray, q: Array, avail: Array, progress: Float[Array, ""]) -> Int[Array, " N"]:
        return explore.epsilon_greedy(key, q, avail, self.epsilon(progress))


@dataclass(frozen=True)
class Sequential(_Exploration):
    """Sequential Exploration: with probability ε = epsilon(progress) one agent acts at random, the others greedily."""

    def __call__(self, key: PRNGKeyArray, q: Array, avail: Array, progress: Float[Array, ""]) -> Int[Array, " N"]:
        return explore.sequential(key, q, avail, self.epsilon(progress))


@dataclass(frozen=True)
class Independent(_Exploration):
    """Each agent explores alone with probability ε/N: sequential exploration without the shared seed."""

    def __call__(self, key: PRNGKeyArray, q: Array, avail: Array, progress: Float[Array, ""]) -> Int[Array, " N"]:
        return explore.independent(key, q, avail, self.epsilon(progress))


def offline_value(team: Team, episode: Episode) -> PerStep:
    """Q_off,tot at the taken joint actions: what the frozen offline team thinks of each step."""
    return values.taken_q_tot(team, episode)


@dataclass(frozen=True)
class Method:
    """An offline-to-online method.

    offline_loss: what to minimise on the dataset; None: there is no offline phase.
    online_target: what Q_tot regresses onto online; None: there is no online phase.
    online_loss: the loss of that regression. explore: how the team acts while it learns online.
    offline_share: the share of every online batch that comes from the dataset.
    memory: what to remember beside each stored step, computed once by the team frozen at the handover.
    """

    offline_loss: Loss | None = None
    online_target: Target | None = None
    online_loss: Loss = SquaredError()
    explore: Explore = EpsilonGreedy(constant(0.05))
    offline_share: Schedule = constant(0.0)
    memory: Memory | None = offline_value

    def __post_init__(self) -> None:
        check_schedule("the offline share", self.offline_share)
        self.offline_share.check_within("the offline share", 0.0, 1.0)
        if self.offline_loss is None and self.online_target is None:
            raise UserError("a method needs an offline loss, an online target, or both; this one has neither.")
        for name in ("offline_loss", "online_target", "online_loss", "explore", "memory"):
            part = getattr(self, name)
            if part is not None and not callable(part):
                raise UserError(f"a method's {name} is a function, such as CQL(1.0) or TD(); got {part!r}.")
        if isinstance(self.online_target, Remember) and (self.offline_loss is None or self.memory is None):
            raise UserError("Remember needs an offline loss and a memory: without them there is nothing to remember.")

    @property
    def uses_data(self) -> bool:
        """Whether the method needs a dataset."""
        return self.offline_loss is not None or self.mixes_data

    @property
    def mixes_data(self) -> bool:
        """Whether online batches hold any offline episodes."""
        return self.online_target is not None and max(self.offline_share.start, self.offline_share.end) > 0
