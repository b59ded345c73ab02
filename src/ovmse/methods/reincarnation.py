"""Selective reincarnation: some agents keep their offline policy, the others go on learning.

After the question of Formanek et al. (2023, arXiv 2304.00977), which agents should carry earlier work on. There the
chosen agents learn with a teacher's data, taken away later, and the others start from scratch. Our agents share one
network, so that none of them can start afresh alone: the chosen ones play as they were, the others are fine-tuned.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.context import Sight
from ovmse.errors import UserError
from ovmse.methods.finetune import FINETUNE


@dataclass(frozen=True)
class Keep:
    """The named agents (from 0) play by the frozen team's utilities, in training and in evaluation.

    They explore like the others. Names beyond the team's last agent name nobody.
    """

    agents: tuple[int, ...] = (0,)
    guided = True

    def __post_init__(self) -> None:
        if not isinstance(self.agents, tuple) or not all(isinstance(i, int) and i >= 0 for i in self.agents):
            raise UserError(
                f"the agents that keep their policy are numbers from 0, such as (0, 2); got {self.agents!r}."
            )

    def __call__(self, sight: Sight) -> Float[Array, "N A"]:
        if sight.offline is None:
            return sight.q
        kept = jnp.isin(jnp.arange(len(sight.q)), jnp.asarray(self.agents, jnp.int32))
        return jnp.where(kept[:, None], sight.offline.heads.acting, sight.q)


REINCARNATION = replace(FINETUNE, compose=Keep())
