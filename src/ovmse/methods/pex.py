"""PEX (Zhang et al. 2023) for each agent: the offline policy stays, and agents pick between it and the online one.

The authors' code was read for the choice. There the online policy starts afresh and the values are taken over; with
utilities the policy is the values, so that ours goes on from the offline team. In evaluation the choice by the online
Q_i is the online team's own action, which is what is played.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse.core import action_selection
from ovmse.core.networks import chosen
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero
from ovmse.methods.signatures import ActionInputs, Explore


@dataclass(frozen=True)
class Expand:
    """Each agent draws one of two proposals, the frozen team's greedy action and the online one's, by softmax of its
    online Q_i / temperature, the paper's α. online: how the online policy explores."""

    online: Explore = FINETUNE.explore
    temperature: float | int = 0.1
    uses_offline_team = True

    def __post_init__(self) -> None:
        check_above_zero("PEX's temperature", self.temperature)

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        assert inputs.offline is not None
        k_online, k_choice = jax.random.split(key)
        kept = action_selection.greedy(inputs.offline.heads.acting, inputs.avail)
        proposals = jnp.stack([kept, self.online(k_online, inputs)], axis=-1)
        worth = jnp.take_along_axis(inputs.online.heads.q, proposals, axis=-1) / self.temperature
        return chosen(proposals, jax.random.categorical(k_choice, worth, axis=-1))


PEX = replace(FINETUNE, explore=Expand())
