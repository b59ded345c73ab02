"""CFCQL (Shao et al. 2023): conservative Q-learning on each agent's deviations; then plain fine-tuning."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ovmse.core import values
from ovmse.core.mixers import agent_mean
from ovmse.core.networks import Parts, chosen
from ovmse.core.values import Scalar
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_strength, squared_error
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class CFCQL:
    """(Q_tot − y)² + α Σ_i λ_i [logsumexp over legal a of Q_tot(a, u_−i) − Q_tot(u)] − (1/N) Σ_i log β_i(u_i).

    λ_i = softmax over the agents of temperature · KL(μ_i ‖ β_i), as in the authors' code: agents whose values lead
    furthest away from the log count most. μ_i is the softmax over legal a of Q_tot(a, u_−i), β_i the behaviour policy,
    fitted beside it by the last term: a head of its own on the recurrent layer, which learns nothing from it. At
    temperature 0 all agents count alike, which is `CQL(form="counterfactual")`. Published for SMAC: α from 0.1 to 50,
    temperature from 0 to 1, by map and dataset.
    """

    alpha: float | int = 1.0
    temperature: float | int = 0.5
    needs = ("behaviour",)

    def __post_init__(self) -> None:
        check_strength("CFCQL's alpha", self.alpha)
        check_strength("CFCQL's temperature", self.temperature)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, avail, action = inputs.values, inputs.episode.avail[:-1], inputs.episode.action
        assert v.online.behaviour is not None
        log_behaviour = values.log_policy(v.online.behaviour[:-1], avail)
        q_tot, present = values.counterfactual_q_tot(v.weights, v.q, action), v.present[:-1]
        share = agent_shares(q_tot, log_behaviour, avail, self.temperature, present)
        gaps = values.counterfactual_gaps(v.weights, v.q, avail, action)
        imitation = agent_mean(chosen(log_behaviour, action), present)
        return squared_error(inputs) + self.alpha * (share * gaps).sum(axis=-1) - imitation


def agent_shares(
    q_tot: Float[Array, "T N A"],
    log_behaviour: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    temperature: Scalar,
    present: Bool[Array, "T N"] | None = None,
) -> Float[Array, "T N"]:
    """λ_i = softmax over the agents that are present of temperature · KL(μ_i ‖ β_i), as constants; μ_i = softmax of
    Q_tot(a, u_−i)."""
    log_mu = values.log_policy(q_tot, avail)
    counted = jnp.ones(avail.shape[:-1], bool) if present is None else present
    divergence = (jnp.exp(log_mu) * (log_mu - log_behaviour)).sum(axis=-1, where=avail)
    return jax.lax.stop_gradient(jax.nn.softmax(values.mask_illegal(temperature * divergence, counted), axis=-1))


CFCQL_METHOD = replace(FINETUNE, offline_loss=CFCQL(), parts=Parts(behaviour=True))
