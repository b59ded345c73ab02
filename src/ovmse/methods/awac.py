"""AWAC (Nair et al. 2020) for a team: imitation weighted by each agent's counterfactual advantage, in both phases."""

from dataclasses import dataclass

from ovmse.core import values
from ovmse.core.networks import Parts, chosen
from ovmse.core.schedules import constant
from ovmse.methods.exploration import Sample
from ovmse.methods.losses import check_above_zero, squared_error
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep
from ovmse.methods.targets import TD


@dataclass(frozen=True)
class AdvantageWeighted:
    """(Q_tot − y)² − Σ_i w_i log π_i(u_i) with w_i = exp(A_i / temperature), at most `largest`.

    A_i = Q_tot(u) − Σ_a π_i(a) Q_tot(a, u_−i): what agent i's action added, the others' kept (COMA's baseline, Foerster
    et al. 2018), where the paper has one agent's Q(s, u) − V(s).
    """

    temperature: float | int = 1.0
    largest: float | int = 100.0
    needs = ("policy",)

    def __post_init__(self) -> None:
        check_above_zero("AWAC's temperature", self.temperature)
        check_above_zero("AWAC's largest weight", self.largest)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, action = inputs.values, inputs.episode.action
        log_policy = values.log_policy_at_steps(v, inputs.episode)
        advantage = values.counterfactual_advantage(v.weights, v.q, log_policy, action)
        weight = values.advantage_weight(advantage, self.temperature, self.largest)
        return squared_error(inputs) - (weight * chosen(log_policy, action)).sum(axis=-1)


AWAC = Method(
    offline_loss=AdvantageWeighted(),
    online_target=TD(),
    online_loss=AdvantageWeighted(),
    next_value=values.next_of_policy,
    explore=Sample(),
    offline_share=constant(0.5),
    parts=Parts(policy=True),
)
