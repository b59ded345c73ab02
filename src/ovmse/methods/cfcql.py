"""CFCQL (Shao et al. 2023): conservative Q-learning on each agent's deviations; then plain fine-tuning."""

from dataclasses import dataclass, replace

import jax

from ovmse.core import values
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_strength, squared_error
from ovmse.methods.signatures import LossInputs, PerStep

LARGEST_TEMPERATURE = 1000.0


@dataclass(frozen=True)
class CFCQL:
    """(Q_tot − y)² + α Σ_i λ_i [logsumexp over legal a of Q_tot(a, u_−i) − Q_tot(u)], Σ λ_i = 1.

    λ_i = softmax over the agents of −temperature · KL_i: agents that would leave the log's behaviour far behind count
    less; in the authors' code they count more, which is a temperature below 0 here; at 0 all agents count alike. The
    authors fit the behaviour policy for KL_i; we take the logged action as its sample: −log μ_i(u_i) with
    μ_i = softmax over legal a of Q_tot(a, u_−i), which is the bracket itself.
    """

    alpha: float | int = 1.0
    temperature: float | int = 0.0

    def __post_init__(self) -> None:
        check_strength("CFCQL's alpha", self.alpha)
        check_strength("CFCQL's temperature", self.temperature, least=-LARGEST_TEMPERATURE)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, avail, action = inputs.values, inputs.episode.avail[:-1], inputs.episode.action
        gaps = values.counterfactual_gaps(v.weights, v.q, avail, action)
        share = jax.lax.stop_gradient(jax.nn.softmax(-self.temperature * gaps, axis=-1))
        return squared_error(inputs) + self.alpha * (share * gaps).sum(axis=-1)


CFCQL_METHOD = replace(FINETUNE, offline_loss=CFCQL())
