"""Online only: QMIX from scratch (Rashid et al. 2018), with no data and nothing to remember."""

from ovmse.core.schedules import linear
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.method import Method
from ovmse.methods.targets import TD

SCRATCH = Method(online_target=TD(), explore=EpsilonGreedy(epsilon=linear(1.0, 0.05, share=0.25)), memory=None)
