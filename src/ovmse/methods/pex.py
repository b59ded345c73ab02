"""PEX (Zhang et al. 2023) for each agent: the offline policy stays, and agents pick between it and the online one.

The authors' code was read for the choice. There the online policy starts afresh and the values are taken over; with
utilities the policy is the values, so that ours goes on from the offline team. In evaluation the choice by the online
Q_i is the online team's own action, which is what is played.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.core import action_selection
from ovmse.core.networks import chosen
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero
from ovmse.methods.signatures import ActionInputs, Explore


@dataclass(frozen=True)
class Expand:
    """Each agent draws one of two proposals, the frozen team's greedy action and its own, by softmax of its online
    Q_i / temperature, the paper's α; then it explores around the one drawn.

    Utilities have no scale of their own, which the mixer gives them: Q_i counts in standard deviations over the agent's
    legal actions, so that a temperature means the same in every environment. online: how the team explores.
    """

    online: Explore = FINETUNE.explore
    temperature: float | int = 1.0
    uses_offline_team = True

    def __post_init__(self) -> None:
        check_above_zero("PEX's temperature", self.temperature)

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        assert inputs.offline is not None
        k_online, k_choice = jax.random.split(key)
        q, avail = inputs.online.heads.q, inputs.avail
        both = [action_selection.greedy(heads, avail) for heads in (inputs.offline.heads.acting, inputs.q)]
        proposals = jnp.stack(both, axis=-1)
        worth = jnp.take_along_axis(standardised(q, avail), proposals, axis=-1) / self.temperature
        drawn = chosen(proposals, jax.random.categorical(k_choice, worth, axis=-1))
        return self.online(k_online, inputs._replace(q=jax.nn.one_hot(drawn, q.shape[-1])))


def standardised(q: Float[Array, "N A"], avail: Bool[Array, "N A"]) -> Float[Array, "N A"]:
    """Utilities with mean 0 and variance 1 over each agent's legal actions."""
    mean = q.mean(axis=-1, where=avail, keepdims=True)
    return (q - mean) / (q.std(axis=-1, where=avail, keepdims=True) + 1e-6)


PEX = replace(FINETUNE, explore=Expand())
