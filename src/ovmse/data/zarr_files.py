"""The files of a dataset: written whole or not at all, and every byte of them checked on reading.

Axes: E episodes, M steps, R = M + E rows, N agents, A actions, O and S features (see `docs/datasets.md`).
"""

import contextlib
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, get_type_hints

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ovmse.core.errors import UserError
from ovmse.core.types import Flat
from ovmse.data.schema import DIMENSIONS, KIND_NAMES, KINDS, LATER, SCHEMA_VERSION, SIZES, Metadata, check_names
from ovmse.system import bounds
from ovmse.system.files import atomic_path, check_free, check_tree, typed
from ovmse.system.spec_json import as_spec

CHUNK_BYTES = 2**20
CHUNK_LIMIT = 10**6  # of one array; more are no log but a wrong shape

# No shuffle: observations repeat whole floats (positions that all agents see, one-hot types), which a shuffle
# tears apart. Logs of SMAX 3m shrink 14-fold with plain zstd, 8-fold with a byte shuffle, 4-fold with bits.
# Level 3 is 7 times as fast as level 12, for files that are a tenth larger.
COMPRESSION_LEVEL = 3
SLAB_BYTES = 2**25


class Stored(NamedTuple):
    """An array to be written, in slabs along its first axis: in memory, or read from a file as it is asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[slice], np.ndarray]


def in_memory(flat: Flat) -> dict[str, Stored]:
    """Arrays in memory, to be written."""
    arrays = cast("dict[str, np.ndarray]", flat).items()
    return {field: Stored(a.shape, a.dtype, a.__getitem__) for field, a in arrays}


def write_whole(path: Path, metadata: Metadata, fields: Mapping[str, Stored]) -> Metadata:
    """Write into a hidden sibling directory, flush it to disk, and only then give it its name.

    Returns the metadata with the checksum.
    """
    with atomic_path(path, check_free) as partial:
        partial.mkdir()
        return _write_files(partial, metadata, fields)


def _write_files(path: Path, metadata: Metadata, fields: Mapping[str, Stored]) -> Metadata:
    """Write the arrays, then the metadata, whose `complete` says that everything before it is there."""
    root = zarr.create_group(path, zarr_format=3)
    hashed = hashlib.sha256()
    for field in KINDS:
        shape, dtype, read = fields[field]
        row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
        chunk = min(shape[0], max(1, CHUNK_BYTES // row_bytes))
        stored = root.create_array(
            field,
            shape=shape,
            dtype=dtype,
            chunks=(chunk, *shape[1:]),
            filters=None,
            compressors=[ZstdCodec(level=COMPRESSION_LEVEL), Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},  # one directory per array
            dimension_names=DIMENSIONS[field],
            config={"write_empty_chunks": True},  # so that a missing chunk is always a loss
        )
        hashed.update(_heading(field, dtype, shape))
        slab = chunk * max(1, SLAB_BYTES // (chunk * row_bytes))
        for first in range(0, shape[0], slab):
            values = np.ascontiguousarray(read(slice(first, min(first + slab, shape[0]))))
            stored[first : first + len(values)] = values
            hashed.update(_little_endian(values))
    metadata = dataclasses.replace(metadata, checksum=f"sha256:{hashed.hexdigest()}")
    root.attrs.update({**dataclasses.asdict(metadata), "env": metadata.env.described(), "complete": True})
    return metadata


def digest(arrays: Mapping[str, Any]) -> str:
    """The checksum of all arrays, in memory or opened by Zarr, as `Metadata.checksum` has it."""
    hashed = hashlib.sha256()
    for field in KINDS:
        array = arrays[field]
        hashed.update(_heading(field, array.dtype, array.shape))
        slab = max(1, SLAB_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
        for first in range(0, array.shape[0], slab):
            hashed.update(_little_endian(np.ascontiguousarray(array[first : first + slab])))
    return f"sha256:{hashed.hexdigest()}"


def _heading(field: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The line that stands before the values of an array in what the checksum is taken of."""
    return f"{field} {dtype.newbyteorder('<').str} {shape}\n".encode()


def _little_endian(values: np.ndarray) -> memoryview:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).data


def read_metadata(path: Path) -> Metadata:
    """The metadata of a complete dataset. Raises `UserError` naming the file and the attribute at fault."""
    file = path / "zarr.json"
    if not file.is_file():
        raise UserError(f"{path}: not a dataset: {file.name} is missing.")
    check_tree(path)
    try:
        attributes = dict(zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False).attrs)
    except Exception as error:
        raise UserError(f"{file}: expected the metadata of a Zarr v3 group, cannot read it: {error!r}") from error
    if attributes.get("complete") is not True:
        raise UserError(f"{file}: not a complete dataset: no attribute complete = true. Write it again.")
    if attributes.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{file}: expected schema_version {SCHEMA_VERSION}, got {attributes.get('schema_version')!r}. "
            "Use the version of ovmse that wrote it, or write it again."
        )
    env = as_spec(attributes.get("env"), f"{file}: env")
    hints = get_type_hints(Metadata).items()
    types = {name: kind for name, kind in hints if name != "env" and (name in attributes or name not in LATER)}
    values = typed(str(file), types, attributes)
    sizes = {k: v for k, v in {**env._asdict(), **values}.items() if k in SIZES}
    if wrong := [f"{name}: expected at least 1, got {value}" for name, value in sizes.items() if value < 1]:
        raise UserError(f"{file}: {'; '.join(wrong)}.")
    metadata = Metadata(env=env, **values)
    check_names(str(file), env, metadata.names)
    return metadata


def read_array(path: Path, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of the dataset, every chunk of it present and its checksum right, else `UserError`."""
    directory = path / field
    again = "Fetch or write the dataset again."
    try:
        array = zarr.open_array(directory, mode="r", zarr_format=3)
        metadata: Any = array.metadata.to_dict()
        codecs = [codec["name"] for codec in metadata["codecs"]]
    except Exception as error:
        raise UserError(f"{directory / 'zarr.json'}: missing or damaged: {error!r}. {again}") from error
    if array.shape != shape or array.dtype.kind not in KINDS[field]:
        raise UserError(
            f"{directory}: the metadata of the dataset asks for {KIND_NAMES[KINDS[field]]} of shape {shape}, "
            f"got {array.dtype} of shape {array.shape}. {again}"
        )
    if codecs[-1] != "crc32c":
        raise UserError(f"{directory}: expected crc32c as the last codec, got {codecs}. Write it with checksums.")
    for coordinates, file in chunks(directory, array):
        if not file.is_file():  # Zarr would take the fill value for it
            raise UserError(f"{file}: chunk {coordinates} of {field} is missing. {again}")
    for _, file, declared in oversized(directory, array):
        raise UserError(f"{file}: {field} is damaged: {declared}. {again}")
    try:
        return np.asarray(array[...])
    except Exception as error:
        _, file, why = next(broken(directory, array), ((), directory, error))
        raise UserError(f"{file}: {field} is damaged: {why!r}. {again}") from error


def chunks(directory: Path, array: Any) -> Iterator[tuple[tuple[int, ...], Path]]:
    """The place and the file of every chunk (of a shard, where chunks are held in shards)."""
    grid = [-(-size // chunk) for size, chunk in zip(array.shape, array.shards or array.chunks, strict=True)]
    if math.prod(grid) > CHUNK_LIMIT:
        raise UserError(f"{directory}: a shape of {list(array.shape)} in {math.prod(grid):.0e} chunks can't be.")
    for coordinates in itertools.product(*map(range, grid)):
        yield coordinates, directory / array.metadata.encode_chunk_key(coordinates)


def oversized(directory: Path, array: Any) -> Iterator[tuple[tuple[int, ...], Path, str]]:
    """The chunks that declare another size than a chunk has: place, file, and why they are not decoded.

    Raises `UserError` where every chunk is too large.
    """
    size = array.dtype.itemsize * math.prod(array.chunks)
    bounds.check(directory, "a chunk", size)
    for coordinates, file in () if array.shards else chunks(directory, array):
        with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
            declared = zstd_bytes(opened.read(18))
            if declared not in (None, size):
                yield coordinates, file, f"expected {size:,} bytes, it declares {declared:,}"


def zstd_bytes(head: bytes) -> int | None:
    """What a frame of Zstandard, by its first 18 bytes, says that it unpacks to (RFC 8878, 3.1.1.1); -1 where it does
    not say; None for anything else."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 5:
        return None
    flags = head[4]
    single = flags >> 5 & 1
    width = (single, 2, 4, 8)[flags >> 6]
    begin = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(head[begin : begin + width], "little") + 256 * (width == 2) if width else -1


def broken(directory: Path, array: Any, part: slice = slice(None)) -> Iterator[tuple[tuple[int, ...], Path, Exception]]:
    """The chunks with entries of `part`, of the first axis, that cannot be decoded: place, file, and why."""
    size = array.shards or array.chunks
    first, end, _ = part.indices(array.shape[0])
    for coordinates, file in chunks(directory, array):
        begin, *_ = places = [slice(c * s, (c + 1) * s) for c, s in zip(coordinates, size, strict=True)]
        if begin.start < end and begin.stop > first:
            try:
                array[tuple(places)]
            except Exception as error:
                yield coordinates, file, error
