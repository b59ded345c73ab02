"""Opening a vault (`flashbax.vault`): where it is, what it holds, and whether its arrays fit each other.

Axes: B streams of play, T time steps, N agents, A actions, O observation features, S state features.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.reading import AGAIN, DISCRETE_ONLY, KIND_WORDS, Layout, axis_sizes, decoding, optional
from ovmse.system import bounds

CACHE_BYTES = 2**26
METADATA_LIMIT = 2**20
INDEX = "vault_index"
LAYOUTS = {
    "obs": Layout("observations.", ("B", "T", "N", "O"), "fiub", "float32", True),
    "action": Layout("actions.", ("B", "T", "N"), "iu", "int32", True),
    "reward": Layout("rewards.", ("B", "T", "N"), "fiub", "float32", True),
    "terminal": Layout("terminals.", ("B", "T", "N"), "biuf", "bool", True),
    "truncated": Layout("truncations.", ("B", "T", "N"), "biuf", "bool"),
    "state": Layout("infos.state.", ("B", "T", "S"), "fiub", "float32"),
    "avail": Layout("infos.legals.", ("B", "T", "N", "A"), "biuf", "bool"),
}


def find(path: Path) -> Path:
    """The one vault at or below `path`."""
    if (path / "metadata.json").is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: expected the directory of a vault, got {'a file' if path.exists() else 'nothing'}.")
    found = sorted(file.parent for level in ("*", "*/*") for file in path.glob(f"{level}/metadata.json"))
    if not found:
        raise UserError(f"{path}: expected a vault, got a directory without metadata.json (NAME.vlt/UID/ has one).")
    if len(found) > 1:
        names = ", ".join(str(vault.relative_to(path)) for vault in found[:20])
        raise UserError(f"{path}: expected one vault, got {len(found)}: {names}. Name one of them.")
    return found[0]


def tensorstore() -> Any:
    """The optional library."""
    return optional("tensorstore", "vaults", "vault")


def store_at(path: Path, name: str = "") -> dict[str, Any]:
    """The key-value store of a vault, or the part of one array, in tensorstore's terms."""
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path.absolute()}/"}, "path": name}


def read_metadata(path: Path) -> dict[str, Any]:
    """What metadata.json says. Raises `UserError` unless it is JSON of a version that can be read."""
    file = path / "metadata.json"
    with decoding(f"{file}: expected JSON, cannot read it"), file.open("rb") as stream:
        text = stream.read(METADATA_LIMIT + 1)
        metadata: Any = json.loads(text) if len(text) <= METADATA_LIMIT else None
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if not isinstance(version, int | float) or not 1 <= version < 2:
        raise UserError(f"{file}: expected a vault of version 1, got version {version!r}. Write it with that version.")
    return metadata


def open_arrays(path: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], int, list[str]]:
    """The arrays by field, the number of real time steps, and the names of other arrays."""
    ts = tensorstore()
    context = ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
    with decoding(f"{path}: the list of its arrays cannot be read"):
        keys = {key.decode() for key in ts.KvStore.open(store_at(path), context=context).result().list().result()}
    names = {key.split("/")[0] for key in keys}
    needed = [*(layout.name for layout in LAYOUTS.values() if layout.required), INDEX]
    if missing := [name for name in needed if name not in names]:
        got = ", ".join(sorted(names)[:32]) or "nothing"
        raise UserError(f"{path}: expected the array{'s' * (len(missing) > 1)} {', '.join(missing)}; got {got}.")

    def opened(name: str) -> Any:
        with decoding(f"{path}: {name} cannot be read"):
            spec = {"driver": "zarr", "kvstore": store_at(path, name)}
            return ts.open(spec, open=True, read=True, context=context).result()

    steps = _vault_index(path, opened(INDEX), keys)
    stores = {field: opened(layout.name) for field, layout in LAYOUTS.items() if layout.name in names}
    _check_shapes(path, stores, steps)
    for field, store in stores.items():
        _check_told(path, LAYOUTS[field].name, store, metadata)
        _check_chunks(path, LAYOUTS[field].name, store, steps, keys)
    return stores, steps, sorted(names - {INDEX} - {layout.name for layout in LAYOUTS.values()})


def _vault_index(path: Path, store: Any, keys: set[str]) -> int:
    where = f"{path}: {INDEX}"
    dtype = np.dtype(store.dtype.numpy_dtype)
    if store.shape != (1,) or dtype.kind not in "iu":
        raise UserError(f"{where}: expected one whole number, got {dtype} of shape {store.shape}.")
    if f"{INDEX}/0" not in keys:
        raise UserError(f"{where}: expected the number of time steps, got none. {AGAIN}")
    with decoding(f"{where} cannot be read"):
        steps = int(store.read().result()[0])
    if steps < 1:
        raise UserError(f"{where}: expected at least 1 time step, got {steps}. Nothing has been written to this vault.")
    return steps


def _check_shapes(path: Path, stores: dict[str, Any], steps: int) -> None:
    """Raise `UserError` unless dtypes, axes and sizes are right and agree, and memory will do."""
    for field, store in stores.items():
        layout, dtype, shape = LAYOUTS[field], np.dtype(store.dtype.numpy_dtype), tuple(store.shape)
        where, axes = f"{path}: {layout.name}", len(layout.axes)
        if dtype.kind not in layout.kinds or len(shape) != axes or 0 in shape or any(store.domain.origin):
            continuous = field == "action" and (dtype.kind == "f" or len(shape) == axes + 1)
            hint = f" {DISCRETE_ONLY}" if continuous else ""
            raise UserError(
                f"{where}: {layout.expected} of {KIND_WORDS[layout.kinds]}, got {dtype} of shape {shape}.{hint}"
            )
        if shape[1] < steps:
            raise UserError(f"{where}: {INDEX} says {steps:,} time steps, the array holds {shape[1]:,}.")
        bounds.check(where, "a chunk", math.prod(store.chunk_layout.read_chunk.shape) * dtype.itemsize)
    axis_sizes(path, ((LAYOUTS[field], (store.shape[0], steps, *store.shape[2:])) for field, store in stores.items()))
    if (needed := step_bytes(stores)) > bounds.BLOCK:
        raise UserError(f"{path}: expected up to {bounds.BLOCK:,} bytes for a time step, its arrays take {needed:,}.")


def _check_told(path: Path, name: str, store: Any, metadata: dict[str, Any]) -> None:
    """Raise `UserError` unless an array is as metadata.json tells: its own description has no checksum."""
    told: list[Any] = [metadata.get("structure_dtype"), metadata.get("structure_shape")]
    for part in name.rstrip(".").split("."):
        told = [level.get(part) if isinstance(level, dict) else None for level in told]
    dtype, shape = told
    sizes = [int(size) for size in re.findall(r"\d{1,18}", shape)[2:]] if isinstance(shape, str) else None
    stored = store.spec().to_json()["metadata"]
    plain = not stored["dtype"].startswith(">") and stored["order"] == "C" and not stored["filters"]
    if not plain or dtype not in (None, store.dtype.name) or sizes not in (None, list(store.shape[2:])):
        raise UserError(
            f"{path}: {name}: metadata.json tells of {dtype} of shape {shape}, in the order of C; "
            f"got {stored['dtype']} of shape {store.shape}, in the order of {stored['order']}. {AGAIN}"
        )


def _check_chunks(path: Path, name: str, store: Any, steps: int, keys: set[str]) -> None:
    """Raise `UserError` unless every chunk up to the last time step is there: Zarr takes zeros for a missing one."""
    extents = (store.shape[0], steps, *store.shape[2:])
    grid = [-(-extent // chunk) for extent, chunk in zip(extents, store.chunk_layout.read_chunk.shape, strict=True)]
    present = {key.removeprefix(f"{name}/").replace("/", ".") for key in keys if key.startswith(f"{name}/")}
    for index in range(math.prod(grid)):  # ends at the first one missing: a damaged index may ask for billions
        if (chunk := ".".join(map(str, np.unravel_index(index, grid)))) not in present:
            raise UserError(f"{path}: {name}: chunk {chunk} is missing. {AGAIN}")


def step_bytes(stores: dict[str, Any]) -> int:
    """Bytes of one time step of one stream."""
    return sum(math.prod(store.shape[2:]) * store.dtype.numpy_dtype.itemsize for store in stores.values())


def has_checksums(store: Any) -> bool:
    """Whether the values of an array are stored with checksums, as gzip and zlib do."""
    compressor = (store.spec().to_json().get("metadata") or {}).get("compressor") or {}
    return compressor.get("id") in ("gzip", "zlib")
