"""The usual losses: the squared TD error, alone and with the penalties of conservative Q-learning."""

from dataclasses import dataclass
from typing import Literal, get_args

from ovmse.core import values
from ovmse.core.errors import UserError, check_known
from ovmse.methods.signatures import LossInputs, PerStep

Form = Literal["per_agent", "joint", "counterfactual"]


@dataclass(frozen=True)
class SquaredError:
    """(Q_tot − y)² of each step, summed over the critics where there are several; y is `LossInputs.td_target`."""

    def __call__(self, inputs: LossInputs) -> PerStep:
        return squared_error(inputs)


def squared_error(inputs: LossInputs) -> PerStep:
    """Σ_k (Q_tot of critic k − y)² at each step, divided by `LossInputs.error_scale`."""
    v, action = inputs.values, inputs.episode.action
    if v.online.critics.shape[-2] == 1:
        return (v.q_tot - inputs.td_target) ** 2 / inputs.error_scale
    each = values.q_tot_of_critics(v.weights, v.online.critics[:-1], action)
    return ((each - inputs.td_target) ** 2).sum(axis=0) / inputs.error_scale


@dataclass(frozen=True)
class CQL:
    """(Q_tot − y)² + α · R: conservative Q-learning (Kumar et al. 2020) in one of three forms for teams.

    Args:
        alpha: the strength α ≥ 0.
        form: ``per_agent``, on each agent's utilities; ``joint``, on Q_tot over sampled joint actions; or
            ``counterfactual``, on Q_tot over one agent's deviations (CFCQL, Shao et al. 2023, with equal weights).
            `ovmse.core.values` has the formulas.
        samples: joint actions drawn per step, for the form ``joint`` alone.

    Raises:
        UserError: for a strength below 0, an unknown form, or less than one sample.
    """

    alpha: float | int = 1.0
    form: Form = "per_agent"
    samples: int = 10

    def __post_init__(self) -> None:
        check_strength("CQL's alpha", self.alpha)
        check_known("form of CQL", self.form, get_args(Form))
        if self.samples < 1:
            raise UserError(f"CQL's samples must be at least 1; got {self.samples}.")

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, avail, action = inputs.values, inputs.episode.avail[:-1], inputs.episode.action
        if self.form == "per_agent":
            gap = values.cql_per_agent(v.q, avail, action, v.present[:-1])
        elif self.form == "counterfactual":
            gap = values.cql_counterfactual(v.weights, v.q, avail, action, v.present[:-1])
        else:
            gap = values.cql_joint(v.weights, v.q, avail, action, values.sample_joint(inputs.key, avail, self.samples))
        return squared_error(inputs) + self.alpha * gap


def check_strength(name: str, value: object, least: float = 0.0) -> None:
    """Raise `UserError` unless `value` is a finite number of at least `least`."""
    if not isinstance(value, float | int) or not least <= value < float("inf"):
        raise UserError(f"{name} must be {least:g} or more; got {value}.")


def check_above_zero(name: str, value: object) -> None:
    """Raise `UserError` unless `value` is a finite number greater than 0."""
    if not isinstance(value, float | int) or not 0.0 < value < float("inf"):
        raise UserError(f"{name} must be greater than 0; got {value}.")
