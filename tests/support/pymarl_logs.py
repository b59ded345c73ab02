"""Padded episodes in HDF5, as PyMARL's kin write them."""

import numpy as np
import pytest

from support.episodes import random_avail

h5py = pytest.importorskip("h5py")
LIMIT, N, O, S, A = 5, 2, 3, 4, 5  # noqa: E741


FLAT = ("obs", "state", "avail", "action", "reward", "terminal", "length", "won")


def batch(rng, lengths, cut=(), final=True):
    """The arrays of a PyMARL episode batch, padded with zeros; `cut` episodes are not terminated.

    final: the row after the last step is filled too, as the runners do; else `filled` marks steps only.
    """
    episodes, rows = len(lengths), LIMIT + 1
    length = np.array(lengths)[:, None]
    row = np.arange(rows) < length + final
    step = np.arange(rows) < length
    avail = random_avail(rng, (episodes, rows, N, A)) & row[..., None, None]
    chosen = np.where(avail, rng.random(avail.shape), -1).argmax(-1)[..., None]
    ended = (np.arange(rows) == length - 1) & ~np.isin(np.arange(episodes), cut)[:, None]
    return {
        "state": (rng.normal(size=(episodes, rows, S)) * row[..., None]).astype(np.float32),
        "obs": (rng.normal(size=(episodes, rows, N, O)) * row[..., None, None]).astype(np.float32),
        "actions": (chosen * step[..., None, None]).astype(np.int64),
        "avail_actions": avail.astype(np.int32),
        "probs": rng.random((episodes, rows, N, A)).astype(np.float32),
        "reward": (rng.normal(size=(episodes, rows, 1)) * step[..., None]).astype(np.float32),
        "terminated": ended[..., None].astype(np.uint8),
        "filled": row[..., None].astype(np.int64),
    }


def save(path, arrays, **options):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)
    return path


def save_growing(path, arrays):
    """A first batch of episodes, and the others appended to it, as CFCQL collects them."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            grown = file.create_dataset(name, data=values[:2], chunks=True, maxshape=(None, *values.shape[1:]))
            grown.resize(values.shape)
            grown[2:] = values[2:]
    return path
