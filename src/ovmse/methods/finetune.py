"""Fine-tuning as it is usually done: the offline phase of OVMSE, then plain TD with ε-greedy exploration."""

from dataclasses import replace

from ovmse.core.schedules import linear
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.ovmse import OVMSE
from ovmse.methods.targets import TD

FINETUNE = replace(OVMSE, online_target=TD(), explore=EpsilonGreedy(epsilon=linear(0.1, 0.02)))
