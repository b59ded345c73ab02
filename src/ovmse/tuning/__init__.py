"""A fair search for settings: the same number of trials, of the same length, on the same seeds, for every method."""

from ovmse.tuning.search import tune
from ovmse.tuning.settings import Tuning

__all__ = ["Tuning", "tune"]
