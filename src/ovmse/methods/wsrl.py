"""WSRL (Zhou et al. 2024, arXiv 2412.07762): no offline data online; the pre-trained team first plays a while without
learning, and its episodes are the replay's first. The paper plays a few episodes; ours is a share of the budget."""

from dataclasses import replace

from ovmse.core.schedules import constant
from ovmse.methods.finetune import FINETUNE

WSRL = replace(FINETUNE, offline_share=constant(0.0), warm_up=0.05, memory=None)
