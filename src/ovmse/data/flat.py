"""Flat arrays of episodes end to end, from padded ones and from one another. Axes: E episodes, T padded steps."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import Episode, Flat
from ovmse.data.schema import KINDS, ROWS, STEPS


def pack(episodes: Episode, won: np.ndarray) -> Flat:
    """The flat arrays of padded episodes: every field has a leading axis E, `won` is (E,) bool.

    Padding (where `valid` is false) is left out. Raises `UserError` where valid steps have a gap.
    """
    valid = np.asarray(episodes.valid, bool)
    length, gap = leading(valid)
    if gap.any():
        raise UserError(f"episode {int(gap.argmax())}: expected its valid steps first and padding after, got a gap.")
    rows = np.arange(valid.shape[1] + 1) <= length[:, None]
    kept = dict.fromkeys(ROWS, rows) | dict.fromkeys(STEPS, valid)
    arrays = {field: np.asarray(getattr(episodes, field))[mask] for field, mask in kept.items()}
    return cast("Flat", arrays | {"length": length.astype(np.int32), "won": np.asarray(won, bool)})


def leading(valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many entries of each row of (E, T) are true, and whether others stand before them, both of shape (E,)."""
    length = valid.sum(axis=1)
    return length, (valid != (np.arange(valid.shape[1]) < length[:, None])).any(axis=1)


def joined(parts: Sequence[Flat]) -> Flat:
    """The arrays of several sets of episodes end to end. Raises `UserError` where their sizes differ."""
    if len(parts) == 1:
        return parts[0]
    try:
        return cast("Flat", {name: np.concatenate([cast("dict", part)[name] for part in parts]) for name in KINDS})
    except ValueError as error:
        raise UserError(f"episodes of different sizes: {error}.") from error
