"""Online only: QMIX from scratch (Rashid et al. 2018), with no data and nothing to remember."""

from ovmse.method import TD, EpsilonGreedy, Method
from ovmse.schedules import linear

SCRATCH = Method(online_target=TD(), explore=EpsilonGreedy(epsilon=linear(1.0, 0.05, share=0.25)), memory=None)
