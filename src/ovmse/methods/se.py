"""SE: the exploration half of OVMSE alone; it regresses onto the plain TD target."""

from dataclasses import replace

from ovmse.methods.ovmse import OVMSE
from ovmse.methods.targets import TD

SE = replace(OVMSE, online_target=TD())
