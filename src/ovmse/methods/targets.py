"""What Q_tot regresses onto, and what is remembered beside each step: the usual targets of a method."""

from dataclasses import dataclass

from jaxtyping import Array, Float, PRNGKeyArray

from ovmse.core import values
from ovmse.core.networks import Team
from ovmse.core.schedules import Schedule, check_schedule
from ovmse.core.types import Episode
from ovmse.core.values import Values
from ovmse.methods.signatures import PerStep


@dataclass(frozen=True)
class TD:
    """Regress onto the TD target as it is: one-step, or the λ-return where the run has λ > 0 (`core.values`)."""

    def __call__(self, td_target: PerStep, offline_value: PerStep, progress: Float[Array, ""]) -> PerStep:
        return td_target


@dataclass(frozen=True)
class OfflineValueMemory:
    """Regress onto y + λ max(0, Q_off − y): Offline Value Function Memory (OVMSE, Zhong et al. 2024).

    The paper states it for one-step targets. With a λ-return, y is the return itself: the memory raises what it comes
    to, and each step's target on its own.

    Args:
        weight: the schedule of λ over the online budget, within [0, 1].
        within_return: raise each step's target inside the recursion instead, so that the steps before it see what the
            memory made of it.

    Raises:
        UserError: where the weight is no schedule, or leaves [0, 1].
    """

    weight: Schedule
    within_return: bool = False

    def __post_init__(self) -> None:
        check_schedule("the memory's weight λ", self.weight)
        self.weight.check_within("the memory's weight λ", 0.0, 1.0)

    def __call__(
        self, td_target: Float[Array, "*steps"], offline_value: Float[Array, "*steps"], progress: Float[Array, ""]
    ) -> Float[Array, "*steps"]:
        return values.memory_target(td_target, offline_value, self.weight(progress))


def offline_q_tot(team: Team, episode: Episode) -> PerStep:
    """Q_off,tot at the taken joint actions: what the frozen offline team thinks of each step."""
    return values.taken_q_tot(team, episode)


def double_q(v: Values, episode: Episode, key: PRNGKeyArray) -> PerStep:
    """Q̄_tot at the joint action that is greedy for the online network (van Hasselt et al. 2016)."""
    return v.next_q_tot
