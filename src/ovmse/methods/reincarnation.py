"""Selective reincarnation: some agents keep their offline policy, the others go on learning.

After the question of Formanek et al. (2023, arXiv 2304.00977), which agents should carry earlier work on. There the
chosen agents learn with a teacher's data, taken away later, and the others start from scratch. Our agents share one
network, so that none of them can start afresh alone: the chosen ones play as they were, the others are fine-tuned.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.core.errors import UserError
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.signatures import ActionInputs


@dataclass(frozen=True)
class Keep:
    """The named agents (from 0) play by the frozen team's utilities, in training and in evaluation.

    They explore like the others. Names beyond the team's last agent name nobody.
    """

    agents: tuple[int, ...] = (0,)
    uses_offline_team = True

    def __post_init__(self) -> None:
        if not isinstance(self.agents, tuple) or not all(isinstance(i, int) and i >= 0 for i in self.agents):
            raise UserError(
                f"the agents that keep their policy are numbers from 0, such as (0, 2); got {self.agents!r}."
            )

    def __call__(self, inputs: ActionInputs) -> Float[Array, "N A"]:
        if inputs.offline is None:
            return inputs.q
        kept = jnp.isin(jnp.arange(len(inputs.q)), jnp.asarray(self.agents, jnp.int32))
        return jnp.where(kept[:, None], inputs.offline.heads.acting, inputs.q)


REINCARNATION = replace(FINETUNE, acting_utilities=Keep())
