"""WSRL (Zhou et al. 2024): no offline data online; the pre-trained team first plays a while without learning."""

from dataclasses import replace

from ovmse.methods.finetune import FINETUNE
from ovmse.schedules import constant

WSRL = replace(FINETUNE, offline_share=constant(0.0), warm_up=0.05, memory=None)
