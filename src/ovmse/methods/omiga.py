"""OMIGA (Wang et al. 2023): the global value regularisation as local ones, by the weights of a linear mixer."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ovmse.core import values
from ovmse.core.mixers import mix, share_of
from ovmse.core.networks import Parts, chosen
from ovmse.core.types import Episode
from ovmse.core.values import Values
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero, squared_error
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep

LARGEST_EXPONENT = 5.0  # so that no exponential explodes; the authors' code clips at ±10


def value_next(v: Values, episode: Episode, key: PRNGKeyArray) -> PerStep:
    """V̄_tot = Σ_i w_i V̄_i + b after each step."""
    assert v.target.value is not None
    return mix(v.next_weights, v.target.value[1:])


@dataclass(frozen=True)
class LocalRegularisation:
    """(Q_tot − y)² + Σ_i [exp(z_i) + w_i V_i / α] − Σ_i exp(z_i) log π_i(u_i), z_i = w_i (Q̄_i(u_i) − V_i) / α.

    w_i is the target mixer's weight of agent i, α > 0 the strength of the regularisation. Where z_i > LARGEST_EXPONENT,
    the exponential goes on as a straight line, so that V_i still rises to meet Q̄_i, and the policy's weight stays.
    """

    alpha: float | int = 10.0
    needs = ("policy", "value")

    def __post_init__(self) -> None:
        check_above_zero("OMIGA's alpha", self.alpha)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, episode = inputs.values, inputs.episode
        assert v.online.value is not None
        value, taken = v.online.value[:-1], chosen(v.target.q[:-1], episode.action)
        share = share_of(v.target_weights, taken)
        exponent = share * (taken - value) / self.alpha
        weight = jnp.exp(jnp.minimum(exponent, LARGEST_EXPONENT))
        beyond = jnp.maximum(0.0, exponent - LARGEST_EXPONENT)
        regression = weight * (1.0 + beyond) + share * value / self.alpha
        log_policy = chosen(values.log_policy_at_steps(v, episode), episode.action)
        imitation = -jax.lax.stop_gradient(weight) * log_policy
        return squared_error(inputs) + (regression + imitation).sum(axis=-1, where=v.present[:-1])


OMIGA = Method(
    offline_loss=LocalRegularisation(),
    online_target=FINETUNE.online_target,
    online_loss=LocalRegularisation(),
    next_value=value_next,
    explore=FINETUNE.explore,
    offline_share=FINETUNE.offline_share,
    parts=Parts(mixer="linear", policy=True, value=True),
)
