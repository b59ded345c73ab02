"""RLPD (Ball et al. 2023) for a team: no offline phase; half of every batch is the dataset's, layer normalisation, and
two critics of which the smaller value counts. The team acts by their mean, as the paper's actor does."""

from ovmse.core.networks import Parts
from ovmse.core.schedules import constant, linear
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.method import Method
from ovmse.methods.targets import TD

RLPD = Method(
    online_target=TD(),
    explore=EpsilonGreedy(linear(0.5, 0.05, share=0.25)),
    offline_share=constant(0.5),
    memory=None,
    parts=Parts(critics=2, normalise=True),
)
