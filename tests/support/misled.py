"""A method that does harm on purpose: it unlearns, and then learns nothing more."""

import jax.numpy as jnp

from ovmse.core.schedules import constant
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs
from ovmse.methods.targets import TD


def mislead_at_first(inputs: LossInputs):
    """Up to a third of the budget every agent learns to take action 0, which wins nothing; later nothing is learned."""
    wrong = (inputs.values.q - jnp.array([5.0, -5.0])) ** 2
    return jnp.where(inputs.progress < 0.35, wrong.sum(axis=(1, 2)), 0.0)


MISLED = Method(
    offline_loss=CQL(alpha=0.1),
    online_target=TD(),
    online_loss=mislead_at_first,
    explore=EpsilonGreedy(constant(0.0)),
    memory=None,
)
