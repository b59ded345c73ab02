"""Opening a vault (`flashbax.vault`): where it is, what it holds, and whether its arrays fit each other.

Axes: B streams of play, T time steps, N agents, A actions, O observation features, S state features.
"""

import importlib
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError

BLOCK_BYTES = 2**25
CACHE_BYTES = 2**26
CHUNK_LIMIT = 2**28
METADATA_LIMIT = 2**20
INDEX = "vault_index"


class VaultLayout(NamedTuple):
    """The array that holds a field: its name, its axes, the kinds of its dtype, and the dtype on export."""

    name: str
    axes: tuple[str, ...]
    kinds: str
    dtype: str
    required: bool = False


LAYOUTS = {
    "obs": VaultLayout("observations.", ("B", "T", "N", "O"), "fiub", "float32", True),
    "action": VaultLayout("actions.", ("B", "T", "N"), "iu", "int32", True),
    "reward": VaultLayout("rewards.", ("B", "T", "N"), "fiub", "float32", True),
    "terminal": VaultLayout("terminals.", ("B", "T", "N"), "biuf", "bool", True),
    "truncated": VaultLayout("truncations.", ("B", "T", "N"), "biuf", "bool"),
    "state": VaultLayout("infos.state.", ("B", "T", "S"), "fiub", "float32"),
    "avail": VaultLayout("infos.legals.", ("B", "T", "N", "A"), "biuf", "bool"),
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
    """The optional library, or a `UserError` that says how to install it."""
    try:
        return importlib.import_module("tensorstore")
    except ImportError as error:
        raise UserError("vaults need tensorstore: pip install 'ovmse[vault]'") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What metadata.json says. Raises `UserError` unless it is JSON of a version that can be read."""
    file = path / "metadata.json"
    try:
        with file.open("rb") as stream:
            text = stream.read(METADATA_LIMIT + 1)
        metadata: Any = json.loads(text) if len(text) <= METADATA_LIMIT else None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: expected JSON, cannot read it: {error!r}. Fetch the vault again.") from error
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if not isinstance(version, int | float) or not 1 <= version < 2:
        raise UserError(f"{file}: expected a vault of version 1, got version {version!r}. Write it with that version.")
    return metadata


def open_arrays(path: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], int, list[str]]:
    """The arrays by field, the number of real time steps, and the names of other arrays."""
    ts = tensorstore()
    context = ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
    kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path.absolute()}/"}}
    try:
        keys = {key.decode() for key in ts.KvStore.open(kvstore, context=context).result().list().result()}
    except Exception as error:
        raise unreadable(path, "the list of its arrays", error) from error
    names = {key.split("/")[0] for key in keys}
    missing = [layout.name for layout in LAYOUTS.values() if layout.required and layout.name not in names]
    if INDEX not in names:
        missing.append(INDEX)
    if missing:
        got = ", ".join(sorted(names)[:32]) or "nothing"
        raise UserError(f"{path}: expected the array{'s' * (len(missing) > 1)} {', '.join(missing)}; got {got}.")

    def opened(name: str) -> Any:
        try:
            spec = {"driver": "zarr", "kvstore": kvstore | {"path": name}}
            return ts.open(spec, open=True, read=True, context=context).result()
        except Exception as error:
            raise unreadable(path, name, error) from error

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
        raise UserError(f"{where}: expected the number of time steps, got none. Fetch the vault again.")
    try:
        steps = int(store.read().result()[0])
    except Exception as error:
        raise unreadable(path, INDEX, error) from error
    if steps < 1:
        raise UserError(f"{where}: expected at least 1 time step, got {steps}. Nothing has been written to this vault.")
    return steps


def _check_shapes(path: Path, stores: dict[str, Any], steps: int) -> None:
    """Raise `UserError` unless dtypes, axes and sizes are right and agree, and memory will do."""
    sizes: dict[str, tuple[int, str]] = {}
    for field, store in stores.items():
        name, axes, kinds = LAYOUTS[field].name, LAYOUTS[field].axes, LAYOUTS[field].kinds
        dtype, shape = np.dtype(store.dtype.numpy_dtype), tuple(store.shape)
        expected = f"expected axes ({', '.join(axes)})"
        if field == "action" and (dtype.kind == "f" or len(shape) == len(axes) + 1):
            raise UserError(
                f"{path}: {name}: {expected} of whole numbers, got {dtype} of shape {shape}. "
                "Only discrete actions are supported."
            )
        if dtype.kind not in kinds or len(shape) != len(axes) or 0 in shape or any(store.domain.origin):
            raise UserError(f"{path}: {name}: {expected} of {_words(kinds)}, got {dtype} of shape {shape}.")
        if shape[1] < steps:
            raise UserError(f"{path}: {name}: {INDEX} says {steps:,} time steps, the array holds {shape[1]:,}.")
        for axis, size in zip(axes, shape, strict=True):
            known, where = sizes.setdefault(axis, (size, name)) if axis != "T" else (size, name)
            if known != size:
                raise UserError(f"{path}: {name}: {expected} with {axis} = {known} as in {where}, got shape {shape}.")
        if math.prod(store.chunk_layout.read_chunk.shape) * dtype.itemsize > CHUNK_LIMIT:
            raise UserError(f"{path}: {name}: expected chunks of up to {CHUNK_LIMIT:,} bytes, got larger ones.")
    if (needed := step_bytes(stores)) > BLOCK_BYTES:
        raise UserError(f"{path}: expected up to {BLOCK_BYTES:,} bytes for a time step, its arrays take {needed:,}.")


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
            f"got {stored['dtype']} of shape {store.shape}, in the order of {stored['order']}. Fetch the vault again."
        )


def _words(kinds: str) -> str:
    return "whole numbers" if kinds == "iu" else "numbers" if kinds[0] == "f" else "bool, or 0 and 1"


def _check_chunks(path: Path, name: str, store: Any, steps: int, keys: set[str]) -> None:
    """Raise `UserError` unless every chunk up to the last time step is there: Zarr takes zeros for a missing one."""
    extents = (store.shape[0], steps, *store.shape[2:])
    grid = [-(-extent // chunk) for extent, chunk in zip(extents, store.chunk_layout.read_chunk.shape, strict=True)]
    present = {key.removeprefix(f"{name}/").replace("/", ".") for key in keys if key.startswith(f"{name}/")}
    for index in range(math.prod(grid)):  # ends at the first one missing: a damaged index may ask for billions
        if (chunk := ".".join(map(str, np.unravel_index(index, grid)))) not in present:
            raise UserError(f"{path}: {name}: chunk {chunk} is missing. Fetch the vault again.")


def unreadable(path: Path, what: str, error: Exception) -> UserError:
    """The error for a part of a vault that cannot be decoded."""
    return UserError(f"{path}: {what} cannot be read: {str(error)[:300]}. Fetch the vault again.")


def step_bytes(stores: dict[str, Any]) -> int:
    """Bytes of one time step of one stream."""
    return sum(math.prod(store.shape[2:]) * store.dtype.numpy_dtype.itemsize for store in stores.values())


def has_checksums(store: Any) -> bool:
    """Whether the values of an array are stored with checksums, as gzip and zlib do."""
    compressor = (store.spec().to_json().get("metadata") or {}).get("compressor") or {}
    return compressor.get("id") in ("gzip", "zlib")
