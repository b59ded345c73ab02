"""ICQ-MA (Yang et al. 2021): values of logged actions alone, weighted by how good they are, and a policy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse.core import values
from ovmse.core.networks import Parts, chosen
from ovmse.core.types import Episode
from ovmse.core.values import Scalar, Values
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero, squared_error
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep


def implicit_weight(
    q: Float[Array, "T N A"], log_policy: Float[Array, "T N A"], action: Int[Array, "T N"], temperature: Scalar
) -> Float[Array, "T N"]:
    """ρ_i = exp(Q(u_i)/β) / Σ_a π_i(a) exp(Q(a)/β), as a constant: 1 on average over the actions of π_i.

    The implicit constraint's importance weight (ICQ, Yang et al. 2021), whose normaliser is a sum over the actions of
    one state. q: Q_tot(a, u_−i), the others' actions kept; under a linear mixer the product over the agents is then the
    weight of the joint action, exp(Q_tot(u)/β) / Σ_u' π(u') exp(Q_tot(u')/β).
    """
    log_normaliser = jax.nn.logsumexp(log_policy + q / temperature, axis=-1)
    return jax.lax.stop_gradient(jnp.exp(chosen(q, action) / temperature - log_normaliser))


@dataclass(frozen=True)
class LoggedNext:
    """ρ Q̄_tot at the next logged joint action u, ρ = exp(Q̄_tot(u)/β) / Σ_u' π(u') exp(Q̄_tot(u')/β), β the temperature.

    The sum over joint actions is a product over agents (`implicit_weight`), exact for a linear mixer.
    The authors' code normalises over the batch instead, which comes to the same where its states are alike. After the
    last step, which has no logged next action, the policy's most likely one is taken, with ρ = 1.
    """

    temperature: float | int = 100.0

    def __post_init__(self) -> None:
        check_above_zero("ICQ's temperature", self.temperature)

    def __call__(self, v: Values, episode: Episode, key: PRNGKeyArray) -> PerStep:
        assert v.online.logits is not None
        logged = episode.valid[1:]
        log_policy = values.log_policy(v.online.logits, episode.avail)[1:]
        likely = jnp.argmax(log_policy, axis=-1)
        action = likely.at[:-1].set(jnp.where(logged[:, None], episode.action[1:], likely[:-1]))
        q_tot = values.q_tot_of_critics(v.next_weights, v.target.critics[1:], action).min(axis=0)
        others_kept = values.counterfactual_q_tot(v.next_weights, v.target.q[1:], action)
        ratio = implicit_weight(others_kept, log_policy, action, self.temperature).prod(axis=-1)
        return q_tot.at[:-1].multiply(jnp.where(logged, ratio[:-1], 1.0))


@dataclass(frozen=True)
class ImplicitConstraint:
    """(Q_tot − y)² − Σ_i ρ_i log π_i(u_i), ρ_i = exp(Q_tot(u)/β) / Σ_a π_i(a) exp(Q_tot(a, u_−i)/β), β the temperature.

    With the linear mixer, Q_tot(a, u_−i) differs between an agent's actions by w_i Q_i(a). The policy learns nothing
    from the mixer and the utilities, nor they from it.
    """

    temperature: float | int = 1.0
    needs = ("policy",)

    def __post_init__(self) -> None:
        check_above_zero("ICQ's temperature", self.temperature)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, action = inputs.values, inputs.episode.action
        log_policy = values.log_policy_at_steps(v, inputs.episode)
        others_kept = values.counterfactual_q_tot(v.weights, v.q, action)
        ratio = implicit_weight(others_kept, log_policy, action, self.temperature)
        return squared_error(inputs) - (ratio * chosen(log_policy, action)).sum(axis=-1)


ICQ = Method(
    offline_loss=ImplicitConstraint(),
    online_target=FINETUNE.online_target,
    online_loss=ImplicitConstraint(),
    next_value=LoggedNext(),
    explore=FINETUNE.explore,
    offline_share=FINETUNE.offline_share,
    parts=Parts(mixer="linear", policy=True),
)
