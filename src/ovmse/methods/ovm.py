"""OVM: the memory half of OVMSE alone; it explores as `finetune` does."""

from dataclasses import replace

from ovmse.methods.finetune import FINETUNE
from ovmse.methods.ovmse import OVMSE

OVM = replace(OVMSE, explore=FINETUNE.explore)
