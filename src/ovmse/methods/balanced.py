"""Balanced replay (Lee et al. 2021, Off2On): the offline episodes nearest to online play are drawn most.

The authors' code was read for the loss, the temperature and the bounds. Ours differs in this: whole episodes are drawn
and not single steps; the share of offline episodes in a batch is a schedule, where the paper keeps offline and online
steps in one prioritised buffer; the ensemble is of two critics on one network, where the paper has five agents.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.core.networks import Parts, online_logit
from ovmse.core.schedules import linear
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import CQL, check_above_zero, squared_error
from ovmse.methods.signatures import LossInputs, PerStep

LEAST, LARGEST = 1e-3, 1e3  # of a priority; no share counts as less


def logit(inputs: LossInputs) -> PerStep:
    """The logit z of each step's having been played online: exp(z) is the density ratio of online to offline steps."""
    assert inputs.values.ratio is not None
    episode = inputs.episode
    return online_logit(
        inputs.values.ratio, episode.state[:-1], jax.nn.one_hot(episode.action, episode.avail.shape[-1])
    )


@dataclass(frozen=True)
class TellApart:
    """(Q_tot − y)² and the logistic loss of a network that tells online steps from the dataset's.

    With the ratio w = exp(z) it is the paper's estimate by the Jensen-Shannon divergence, −log w/(w + 1) for online
    steps and −log 1/(w + 1) for offline ones, where half of a batch is offline. In a batch with a share s of offline
    episodes, a step of ratio w was played online with the odds w (1 − s)/s, which take the place of w in the loss: so w
    itself does not depend on the share. The paper draws offline steps uniformly; ours were drawn by their priority and
    count in inverse proportion.
    """

    needs = ("ratio",)

    def __call__(self, inputs: LossInputs) -> PerStep:
        sign = jnp.where(inputs.from_data, -1.0, 1.0)
        share = jnp.clip(inputs.offline_share, LEAST, 1.0 - LEAST)
        odds = logit(inputs) + jnp.log(1.0 - share) - jnp.log(share)
        return squared_error(inputs) + jax.nn.softplus(-sign * odds) / inputs.drawn


@dataclass(frozen=True)
class DensityRatio:
    """w^(1/temperature) on average over an episode's steps, between `LEAST` and `LARGEST`.

    w is how much likelier a step is online than in the dataset; the temperature makes the priorities more alike.
    """

    temperature: float | int = 5.0

    def __post_init__(self) -> None:
        check_above_zero("the density ratio's temperature", self.temperature)

    def __call__(self, inputs: LossInputs) -> Float[Array, ""]:
        valid = inputs.episode.valid
        ratio = jnp.clip(jnp.exp(logit(inputs) / self.temperature), LEAST, LARGEST)
        return jnp.where(valid, ratio, 0.0).sum() / jnp.maximum(1, valid.sum())


BALANCED = replace(
    FINETUNE,
    offline_loss=CQL(alpha=3.0),
    online_loss=TellApart(),
    offline_share=linear(0.5, 0.25),
    priority=DensityRatio(),
    parts=Parts(critics=2, ratio=True),
)
