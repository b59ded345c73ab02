"""Implicit Q-learning (Kostrikov et al. 2022) for each agent on its own, by the team's reward."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ovmse.core import values
from ovmse.core.errors import UserError
from ovmse.core.mixers import agent_mean
from ovmse.core.networks import Heads, Parts, chosen
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class ImplicitQ:
    """Each agent's (Q_i − r − γ V_i')², expectile regression of V_i on Q̄_i, and advantage-weighted imitation: the
    paper's L_Q + L_V + L_π, averaged over the agents. With several critics all learn, and the smallest Q̄_i counts.

    expectile: τ in (0, 1); above ½, V_i leans to the best logged actions. temperature: the advantage at which an action
    weighs e times as much; at most `largest` times. All V_i are of the team's reward, so that the mean of the others'
    stands for that of an agent that is dead by then.
    """

    expectile: float | int = 0.8
    temperature: float | int = 1.0
    largest: float | int = 100.0
    learns, needs = "utilities", ("policy", "value")

    def __post_init__(self) -> None:
        if not 0.0 < self.expectile < 1.0:
            raise UserError(f"IQL's expectile must lie between 0 and 1; got {self.expectile}.")
        check_above_zero("IQL's temperature", self.temperature)
        check_above_zero("IQL's largest weight", self.largest)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, episode = inputs.values, inputs.episode
        value = v.online.value
        assert value is not None
        of_team = jax.lax.stop_gradient(agent_mean(value, v.present))[:, None]
        after = jnp.where(v.present, jax.lax.stop_gradient(value), of_team)[1:]
        target = jax.vmap(inputs.bootstrap, in_axes=1, out_axes=1)(after)
        critic = ((taken(v.online, episode.action) - target) ** 2).sum(axis=0)
        advantage = taken(v.target, episode.action).min(axis=0) - value[:-1]
        regression = jnp.where(advantage > 0, self.expectile, 1.0 - self.expectile) * advantage**2
        log_policy = chosen(values.log_policy_at_steps(v, episode), episode.action)
        weight = values.advantage_weight(advantage, self.temperature, self.largest)
        return agent_mean(critic + regression - weight * log_policy, v.present[:-1])


def taken(heads: Heads, action: Int[Array, "T N"]) -> Float[Array, "K T N"]:
    """Each critic's utilities of the taken actions."""
    critics = jnp.moveaxis(heads.critics[:-1], -2, 0)
    return chosen(critics, jnp.broadcast_to(action, critics.shape[:-1]))


IQL = Method(
    offline_loss=ImplicitQ(),
    online_target=FINETUNE.online_target,
    online_loss=ImplicitQ(),
    explore=FINETUNE.explore,
    offline_share=FINETUNE.offline_share,
    memory=None,
    parts=Parts(policy=True, value=True),
)
