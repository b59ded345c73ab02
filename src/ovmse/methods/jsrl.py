"""JSRL (Uchendu et al. 2023) for a team: the offline team plays the first steps, and ever fewer of them."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse import explore
from ovmse.context import Explore, Sight
from ovmse.method import EpsilonGreedy
from ovmse.methods.finetune import FINETUNE
from ovmse.schedules import Schedule, check_schedule, linear


@dataclass(frozen=True)
class Guided:
    """The frozen team, greedily, for the first `horizon` (progress) of the episode limit; then the team that learns.

    The paper starts at the guide's full length and shrinks the horizon whenever the score allows; ours follows a
    schedule, as a share of the limit, which most episodes do not reach. then: how the learner explores.
    """

    horizon: Schedule = linear(0.3, 0.0, share=0.5)
    then: Explore = EpsilonGreedy(linear(0.5, 0.05, share=0.5))
    guided = True

    def __post_init__(self) -> None:
        check_schedule("the guide's horizon", self.horizon)
        self.horizon.check_within("the guide's horizon", 0.0, 1.0)

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        assert sight.offline is not None
        guided = sight.t < self.horizon(sight.progress) * sight.episode_limit
        return jnp.where(guided, explore.greedy(sight.offline.heads.acting, sight.avail), self.then(key, sight))


JSRL = replace(FINETUNE, explore=Guided(), memory=None, fresh=True)
