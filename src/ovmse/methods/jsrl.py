"""JSRL (Uchendu et al. 2023) for a team: the offline team plays the first steps, and ever fewer of them."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse.core import action_selection
from ovmse.core.schedules import Schedule, check_schedule, linear
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.signatures import ActionInputs, Explore


@dataclass(frozen=True)
class Guided:
    """The frozen team, greedily, for the first `horizon` (progress) of an episode; then the team that learns.

    The horizon is a share of the mean length of the episodes played so far, since few reach the limit. The paper's
    shrinks from the guide's full length whenever the score allows; ours follows a schedule. then: how the learner
    explores.
    """

    horizon: Schedule = linear(1.0, 0.0, share=0.5)
    then: Explore = EpsilonGreedy(linear(0.5, 0.05, share=0.5))
    uses_offline_team = True

    def __post_init__(self) -> None:
        check_schedule("the guide's horizon", self.horizon)
        self.horizon.check_within("the guide's horizon", 0.0, 1.0)

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        assert inputs.offline is not None
        guided = inputs.t < self.horizon(inputs.progress) * inputs.typical_length
        return jnp.where(
            guided, action_selection.greedy(inputs.offline.heads.acting, inputs.avail), self.then(key, inputs)
        )


JSRL = replace(FINETUNE, explore=Guided(), memory=None, reinitialise_online=True)
