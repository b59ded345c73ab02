"""CQL kept on: the conservative penalty of the offline phase goes on online, on offline and online steps alike."""

from dataclasses import replace

from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import CQL

KEPT = replace(FINETUNE, online_loss=CQL(alpha=3.0))
