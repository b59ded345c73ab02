"""Balanced replay (Lee et al. 2021, Off2On): the offline episodes nearest to online play are drawn most."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.context import Context, PerStep
from ovmse.losses import squared_error
from ovmse.method import CQL, Parts
from ovmse.methods.finetune import FINETUNE
from ovmse.networks import online_logit
from ovmse.schedules import linear

LARGEST = 10.0


def logit(context: Context) -> PerStep:
    """The logit of each step's having been played online."""
    assert context.values.ratio is not None
    episode = context.episode
    return online_logit(
        context.values.ratio, episode.state[:-1], jax.nn.one_hot(episode.action, episode.avail.shape[-1])
    )


@dataclass(frozen=True)
class TellApart:
    """(Q_tot − y)² and the logistic loss of a network that tells online steps from the dataset's (Lee et al. 2021,
    equation 4, in the form of a classifier)."""

    needs = ("ratio",)

    def __call__(self, context: Context) -> PerStep:
        sign = jnp.where(context.from_data, -1.0, 1.0)
        return squared_error(context) + jax.nn.softplus(-sign * logit(context))


@dataclass(frozen=True)
class DensityRatio:
    """How much likelier an episode's steps are online than in the dataset, on average, at most `LARGEST`.

    The paper weighs single steps; our batches consist of whole episodes.
    """

    def __call__(self, context: Context) -> Float[Array, ""]:
        valid = context.episode.valid
        ratio = jnp.minimum(jnp.exp(logit(context)), LARGEST)
        return jnp.where(valid, ratio, 0.0).sum() / jnp.maximum(1, valid.sum())


BALANCED = replace(
    FINETUNE,
    offline_loss=CQL(alpha=1.0),
    online_loss=TellApart(),
    offline_share=linear(0.5, 0.25),
    priority=DensityRatio(),
    parts=Parts(critics=2, ratio=True),
)
