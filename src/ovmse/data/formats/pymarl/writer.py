"""Write a dataset as padded episodes in HDF5, as PyMARL's kin read them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.pymarl.opening import ATTRIBUTE_BYTES, BLOCK_BYTES, KEYS, ORIGIN, WON, h5py
from ovmse.data.formats.reading import export_sizes, origin, spans
from ovmse.data.schema import ROWS, places
from ovmse.system.files import atomic_path

CHUNK_BYTES = 2**20
CHECKED = ("v110", "v110")  # the first layout with checksums on all that is not data; HDF5 1.10 is of 2016


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as the HDF5 file that CFCQL and OffPyMARL read: padded to the episode limit and one row more.

    The row after the last step is kept and marked as filled; values behind it are 0. An episode that a time limit cut
    is not terminated. What the format has no place for is in attributes of the file: its origin, and which episodes
    were won. Returns what found no place, in sentences. Raises `UserError` where `path` exists or cannot be written.
    """
    with atomic_path(path) as partial:
        try:
            with h5py().File(partial, "w", libver=CHECKED) as file:
                for field in KEYS:
                    if field != "won":
                        _write_key(dataset, file, field)
                return _write_attributes(dataset, file)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: cannot be written: {str(error)[:300]}") from error


def _write_attributes(dataset: Dataset, file: Any) -> list[str]:
    """Add what the format has no place for; returns what is too large for that, in sentences."""
    lost, told, won = [], json.dumps(origin(dataset)), np.packbits(dataset.won)
    if len(told) <= ATTRIBUTE_BYTES:
        file.attrs[ORIGIN] = np.bytes_(told)
    else:
        lost.append("the environment and its settings take too much room for an attribute, and are not in the file")
    if dataset.spec.has_win and won.nbytes <= ATTRIBUTE_BYTES:
        file.attrs[WON] = won
    elif dataset.spec.has_win:
        lost.append(f"which of {len(dataset.won):,} episodes were won is not in the file: there are too many of them")
    return lost


def _write_key(dataset: Dataset, file: Any, field: str) -> None:
    key = KEYS[field]
    sizes = export_sizes(dataset, E=len(dataset.length), R=dataset.spec.episode_limit + 1)
    shape = tuple(sizes[axis] for axis in key.axes)
    shape = shape if field in ROWS else (*shape, 1)
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
    for lo, hi in spans(shape[0], max(1, BLOCK_BYTES // (row_bytes * shape[1] * episodes)) * episodes):
        values = np.zeros((hi - lo, *shape[1:]), key.dtype)
        length = dataset.length[lo:hi, None]
        if field == "filled":
            values[np.arange(shape[1]) <= length] = 1
        else:
            flat = getattr(dataset, field)[places(dataset.length, lo, hi)[field]]
            values[np.arange(shape[1]) < length + (field in ROWS)] = flat.reshape(len(flat), *shape[2:])
        target[lo:hi] = values
