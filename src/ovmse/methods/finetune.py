"""Fine-tuning as it is usually done: the offline phase of OVMSE, then plain TD with ε-greedy exploration."""

from dataclasses import replace

from ovmse.method import TD, EpsilonGreedy
from ovmse.methods.ovmse import OVMSE
from ovmse.schedules import linear

FINETUNE = replace(OVMSE, online_target=TD(), explore=EpsilonGreedy(epsilon=linear(0.1, 0.02)))
