"""ICQ-MA (Yang et al. 2021): values of logged actions alone, weighted by how good they are, and a policy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ovmse.core import values
from ovmse.core.mixers import share_of
from ovmse.core.networks import Parts, chosen
from ovmse.core.types import Episode
from ovmse.core.values import Values
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero, squared_error
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class LoggedNext:
    """ρ Q̄_tot at the next logged joint action, ρ = softmax of Q̄_tot / temperature over the steps, times their number.

    The authors normalise over a batch; we do so over the episode, so that ρ is 1 on average in each. After the last
    step, which has no logged next action, the policy's most likely one is taken, with ρ = 1.
    """

    temperature: float | int = 100.0

    def __post_init__(self) -> None:
        check_above_zero("ICQ's temperature", self.temperature)

    def __call__(self, v: Values, episode: Episode, key: PRNGKeyArray) -> PerStep:
        logged = episode.valid[1:]
        likely = jnp.argmax(values.mask_illegal(v.online.acting, episode.avail), axis=-1)[1:]
        action = likely.at[:-1].set(jnp.where(logged[:, None], episode.action[1:], likely[:-1]))
        q_tot = values.q_tot_of_critics(v.next_weights, v.target.critics[1:], action).min(axis=0)
        ratio = values.normalised_over(q_tot[:-1] / self.temperature, logged)
        return q_tot.at[:-1].multiply(jnp.where(logged, ratio, 1.0))


@dataclass(frozen=True)
class ImplicitConstraint:
    """(Q_tot − y)² − Σ_i ρ_i log π_i(u_i), ρ_i = softmax of A_i / temperature over the steps, times their number.

    A_i = w_i (Q_i(u_i) − Σ_a π_i(a) Q_i(a)), with w_i the mixer's weight of agent i; the policy learns nothing from w_i
    and Q_i, nor they from it.
    """

    temperature: float | int = 1.0
    needs = ("policy",)

    def __post_init__(self) -> None:
        check_above_zero("ICQ's temperature", self.temperature)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, episode = inputs.values, inputs.episode
        log_policy, taken = values.log_policy_at_steps(v, episode), chosen(v.q, episode.action)
        gap = taken - (jnp.exp(log_policy) * v.q).sum(axis=-1)
        advantage = jax.lax.stop_gradient(share_of(v.weights, taken) * gap)
        over_steps = jax.vmap(values.normalised_over, in_axes=(1, None), out_axes=1)
        ratio = over_steps(advantage / self.temperature, episode.valid)
        return squared_error(inputs) - (ratio * chosen(log_policy, episode.action)).sum(axis=-1)


ICQ = Method(
    offline_loss=ImplicitConstraint(),
    online_target=FINETUNE.online_target,
    online_loss=ImplicitConstraint(),
    next_value=LoggedNext(),
    explore=FINETUNE.explore,
    offline_share=FINETUNE.offline_share,
    parts=Parts(mixer="linear", policy=True),
)
