"""SE: the exploration half of OVMSE alone; it regresses onto the plain TD target."""

from dataclasses import replace

from ovmse.method import TD
from ovmse.methods.ovmse import OVMSE

SE = replace(OVMSE, online_target=TD())
