"""Episodes of a dataset by their numbers, and which of them are held out.

Axes: E episodes.
"""

from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int

from ovmse.core.errors import UserError, number_of
from ovmse.core.types import Flat
from ovmse.data.schema import ROWS, STEPS, starts

FEWEST = 2
"""Episodes that are held out at least: one alone has no spread."""


class Split(NamedTuple):
    """The numbers of the episodes that are learned from and of those that are held out, both rising."""

    kept: Int[np.ndarray, " K"]
    held_out: Int[np.ndarray, " H"]


def hold_out(episodes: int, share: float, seed: int) -> Split:
    """Draw the share of the episodes that is held out, by the seed alone.

    Raises `UserError` where none would be left to learn from.
    """
    count = max(FEWEST, round(share * episodes))
    if count >= episodes:
        raise UserError(
            f"of {number_of(episodes, 'episode')} {count} would be held out, and none left to learn from: import more "
            "of the log, or lower --held-out."
        )
    held_out = np.sort(np.random.default_rng(seed).permutation(episodes)[:count])
    return Split(np.setdiff1d(np.arange(episodes), held_out), held_out)


def take(flat: Flat, numbers: Int[np.ndarray, " K"]) -> Flat:
    """The arrays of some episodes, in the order of their numbers."""

    def along(length: np.ndarray) -> np.ndarray:
        count = length[numbers]
        return np.repeat(starts(length)[numbers] - starts(count), count) + np.arange(count.sum())

    places = dict.fromkeys(ROWS, along(flat["length"] + 1)) | dict.fromkeys(STEPS, along(flat["length"]))
    places |= dict.fromkeys(("length", "won"), numbers)
    return cast("Flat", {name: cast("dict", flat)[name][at] for name, at in places.items()})
