"""Write a dataset as a vault (`flashbax.vault`), in blocks of time steps."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, number_of
from ovmse.data.dataset import Dataset
from ovmse.data.formats.reading import export_sizes, origin, spans
from ovmse.data.formats.vault.opening import INDEX, LAYOUTS, store_at, tensorstore
from ovmse.data.schema import ROWS
from ovmse.system import bounds
from ovmse.system.files import atomic_path

VERSION = 1.2
TIME_AXIS = 10**13


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as a vault; flashbax opens a/b/c as `Vault("b", rel_dir="a", vault_uid="c")`.

    Every agent gets the team's reward; a step that ended an episode is terminal, or else truncated, for all agents.
    Returns what a vault has no place for, in sentences. Raises `UserError` where `path` exists or cannot be written.
    """
    steps = len(dataset.action)
    if steps >= 2**31:
        raise UserError(f"{path}: a vault counts up to {2**31 - 1:,} time steps, the dataset has {steps:,}.")
    sizes = export_sizes(dataset, B=1, T=steps)
    shapes = {field: tuple(sizes[axis] for axis in layout.axes) for field, layout in LAYOUTS.items()}
    with atomic_path(path) as partial:
        partial.mkdir()
        try:
            for field, shape in shapes.items():
                _write_array(dataset, partial, field, shape)
            index = _create(partial, INDEX, (1,), "int32", {})
            index.write(np.array([steps], np.int32)).result()
        except ValueError as error:  # what tensorstore raises, a full disk included
            raise UserError(f"{path}: cannot be written: {str(error)[:300]}") from error
        (partial / "metadata.json").write_text(json.dumps(_metadata_of(dataset, shapes)))
    episodes, cut = len(dataset.length), len(dataset.length) - int(dataset.terminal.sum())
    played = number_of(episodes, "episode")
    lost = [f"final observations of {played}, {cut:,} of them cut by the time limit, are not in a vault"]
    if dataset.spec.has_win:
        lost.append(f"which episodes were won ({int(dataset.won.sum()):,} of {episodes:,}) is not in a vault")
    return lost


def _create(path: Path, name: str, shape: tuple[int, ...], dtype: str, metadata: dict[str, Any]) -> Any:
    spec = {"driver": "zarr", "kvstore": store_at(path, name)} | metadata
    return tensorstore().open(spec, shape=shape, dtype=np.dtype(dtype), create=True).result()


def _write_array(dataset: Dataset, path: Path, field: str, shape: tuple[int, ...]) -> None:
    """Write one array in blocks of whole chunks: a chunk that is written twice stays in the store twice."""
    compressor = {"metadata": {"compressor": {"id": "gzip", "level": 5}}}
    declared = (shape[0], TIME_AXIS, *shape[2:])
    store = _create(path, LAYOUTS[field].name, declared, LAYOUTS[field].dtype, compressor)
    chunk = store.chunk_layout.write_chunk.shape[1]
    step_bytes = math.prod(shape[2:]) * np.dtype(LAYOUTS[field].dtype).itemsize
    for lo, hi in spans(shape[1], max(1, bounds.block_bytes() // (chunk * step_bytes)) * chunk):
        values = np.broadcast_to(_steps(dataset, field, lo, hi), (hi - lo, *shape[2:]))
        store[0, lo:hi].write(np.ascontiguousarray(values, LAYOUTS[field].dtype)).result()


def _steps(dataset: Dataset, field: str, lo: int, hi: int) -> np.ndarray:
    """A field at the steps `lo` to `hi` of the dataset, as far as it can be broadcast to the agents."""
    step, first = np.arange(lo, hi), dataset.step_start
    episode = np.searchsorted(first, step, side="right") - 1
    if field in ROWS:
        return getattr(dataset, field)[step + episode]  # rows run one ahead of steps with every episode
    if field == "truncated":
        last = step == first[episode] + dataset.length[episode] - 1
        return (last & ~dataset.terminal[lo:hi])[:, None]
    values = getattr(dataset, field)[lo:hi]
    return values if field == "action" else values[:, None]


def _metadata_of(dataset: Dataset, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What flashbax expects in metadata.json, and where the play comes from."""
    shape: dict[str, Any] = {"infos": {}}
    dtype: dict[str, Any] = {"infos": {}}
    for field, layout in LAYOUTS.items():
        *above, name = layout.name.rstrip(".").split(".")
        (shape["infos"] if above else shape)[name] = str(shapes[field])
        (dtype["infos"] if above else dtype)[name] = layout.dtype
    return {"version": VERSION, "structure_shape": shape, "structure_dtype": dtype, "ovmse": origin(dataset)}
