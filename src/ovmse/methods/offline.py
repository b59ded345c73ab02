"""Offline only: QMIX with CQL on the dataset (the first phase of OVMSE), and no online phase."""

from dataclasses import replace

from ovmse.core.schedules import constant
from ovmse.methods.ovmse import OVMSE

OFFLINE = replace(OVMSE, online_target=None, offline_share=constant(0.0))
