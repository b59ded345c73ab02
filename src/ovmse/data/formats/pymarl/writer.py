"""Write a dataset as padded episodes in HDF5, as PyMARL's kin read them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, number_of
from ovmse.data.dataset import Dataset
from ovmse.data.formats.pymarl.opening import (
    ATTRIBUTE_BYTES,
    KEYS,
    ONE_HOT,
    ORIGIN,
    UNMARKED,
    WON,
    h5py,
)
from ovmse.data.formats.reading import export_sizes, origin, spans
from ovmse.data.schema import ROWS, places
from ovmse.system import bounds
from ovmse.system.files import atomic_path

CHUNK_BYTES = 2**20
CHECKED = ("v110", "v110")  # the first layout with checksums on all that is not data; HDF5 1.10 is of 2016


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as the HDF5 file that CFCQL and OffPyMARL read: padded to the episode limit and one row more.

    The row after the last step is kept and marked as filled; values behind it are 0. An episode that was cut is not
    terminated. Where it was cut before the limit, its final row is kept but not marked: the loaders take every filled
    row but the last of all and those after a terminated one for a step. What the format has no place for is in
    attributes of the file: its origin, and which episodes were won. Returns what found no place, in sentences.
    Raises `UserError` where `path` exists or cannot be written.
    """
    with atomic_path(path) as partial:
        try:
            with h5py().File(partial, "w", libver=CHECKED) as file:
                for field in (*KEYS, "one_hot"):
                    if field != "won":
                        _write_key(dataset, file, field)
                return _write_attributes(dataset, file)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: cannot be written: {str(error)[:300]}") from error


def _write_attributes(dataset: Dataset, file: Any) -> list[str]:
    """Add what the format has no place for; returns what is too large for that, in sentences."""
    lost, told, won = [], json.dumps(origin(dataset)), np.packbits(dataset.won)
    if early := int(_cut_early(dataset, 0, len(dataset.length)).sum()):
        file.attrs[UNMARKED] = np.uint8(1)
        lost.append(
            f"the final rows of {number_of(early, 'episode')} cut before the limit of "
            f"{number_of(dataset.spec.episode_limit, 'step')} are in the file, but not marked as filled: PyMARL's "
            "loaders would train on them. A batch without a longer episode leaves out the last step of these"
        )
    if len(told) <= ATTRIBUTE_BYTES:
        file.attrs[ORIGIN] = np.bytes_(told)
    else:
        lost.append("the environment and its settings take too much room for an attribute, and are not in the file")
    if dataset.spec.has_win and won.nbytes <= ATTRIBUTE_BYTES:
        file.attrs[WON] = won
    elif dataset.spec.has_win:
        many = number_of(len(dataset.won), "episode")
        lost.append(f"which were won, of {many}, is not in the file: there are too many of them")
    return lost


def _cut_early(dataset: Dataset, lo: int, hi: int) -> np.ndarray:
    """Which of the episodes `lo` to `hi` were cut before the episode limit, shape (E,)."""
    length, last = dataset.length[lo:hi], dataset.step_start[lo:hi] + dataset.length[lo:hi] - 1
    return (length < dataset.spec.episode_limit) & ~dataset.terminal[last]


def _write_key(dataset: Dataset, file: Any, field: str) -> None:
    key = ONE_HOT if field == "one_hot" else KEYS[field]
    sizes = export_sizes(dataset, E=len(dataset.length), R=dataset.spec.episode_limit + 1)
    shape = tuple(sizes[axis] for axis in key.axes)
    shape = shape if field in (*ROWS, "one_hot") else (*shape, 1)
    row_bytes = math.prod(shape[2:]) * np.dtype(key.dtype).itemsize
    rows = min(shape[1], max(1, CHUNK_BYTES // row_bytes))
    episodes = min(shape[0], max(1, CHUNK_BYTES // (row_bytes * shape[1])))
    target = file.create_dataset(
        key.name,
        shape,
        key.dtype,
        chunks=(episodes, rows, *shape[2:]),
        compression="gzip",  # no shuffle: it tears apart the whole numbers that observations repeat
        fletcher32=True,
    )
    for lo, hi in spans(shape[0], max(1, bounds.block_bytes() // (row_bytes * shape[1] * episodes)) * episodes):
        values = np.zeros((hi - lo, *shape[1:]), key.dtype)
        length = dataset.length[lo:hi, None]
        if field == "filled":
            values[np.arange(shape[1]) < length + ~_cut_early(dataset, lo, hi)[:, None]] = 1
        else:
            source = "action" if field == "one_hot" else field
            flat = getattr(dataset, source)[places(dataset.length, lo, hi)[source]]
            flat = flat[..., None] == np.arange(shape[-1]) if field == "one_hot" else flat
            values[np.arange(shape[1]) < length + (field in ROWS)] = flat.reshape(len(flat), *shape[2:])
        target[lo:hi] = values
