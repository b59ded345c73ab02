"""The arrays in an .npz file, read along their first axis a part at a time, without pickle; checksums are checked.

A header is believed only where it agrees with the size of its member, so no header makes this library reserve memory.
"""

import math
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats import reading
from ovmse.data.formats.pickles import RECIPE_HINT
from ovmse.data.formats.reading import AGAIN
from ovmse.system import bounds

EPISODE_BYTES = 24  # that are held for each one: its length, where it begins, whether it was won


class NpzMember(NamedTuple):
    """An array of an .npz file: its name there, and what its header says."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    header_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def where(self) -> str:
        """The place to name in errors."""
        return f"{self.file}: {self.name}"


def decoding(file: Path, name: str = "") -> AbstractContextManager[None]:
    """Whatever the zip file or the decoder raises on damaged files becomes a `UserError`."""
    return reading.decoding(f"{file}{': ' if name else ''}{name}: damaged, or no .npz file")


def files(path: Path) -> list[Path]:
    """The .npz files of a path: itself, or those in the directory in natural order."""
    if not path.exists():
        raise UserError(f"{path}: no such file or directory.")
    if path.is_file() and path.suffix.lower() == ".npy":
        raise UserError(f"{path}: one array is not enough. Save all of them in one file: np.savez(path, obs=obs, ...).")
    return reading.files(path, ".npz")


def members(file: Path) -> dict[str, NpzMember]:
    """The arrays in a file by their names. Raises `UserError` for damaged files and for arrays of objects."""
    with decoding(file), zipfile.ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(set(names)) < len(names):
            raise UserError(f"{file}: two arrays have the same name. Write the file again.")
        return {name.removesuffix(".npy"): _member(archive, file, name) for name in names}


def _member(archive: zipfile.ZipFile, file: Path, name: str) -> NpzMember:
    info = archive.getinfo(name)
    with decoding(file, name), archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise UserError(f"{file}: {name}: expected version 1 or 2 of the .npy format, got {version}.")
        header_of: Any = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran, dtype = header_of(stream)
        header = stream.tell()
    if dtype.hasobject:
        raise UserError(
            f"{file}: {name} is an array of Python objects, stored as a pickle: loading it runs code that the author "
            f"of the file chose, so it is not loaded. {RECIPE_HINT}"
        )
    size = math.prod(shape) * dtype.itemsize
    if size != info.file_size - header or any(length < 0 for length in shape):
        raise UserError(
            f"{file}: {name}: its header declares {dtype} of shape {shape}, {size} bytes; there are "
            f"{info.file_size - header}. {AGAIN}"
        )
    return NpzMember(file, name.removesuffix(".npy"), shape, dtype, fortran and len(shape) > 1, header)


class Reader:
    """An array, taken in parts from first to last; the checksum is checked with the last one."""

    def __init__(self, archive: zipfile.ZipFile, member: NpzMember) -> None:
        self.member = member
        bounds.check(member.where, f"one entry of shape {member.shape[1:]}", member.row_bytes)
        with decoding(member.file, member.name):
            self._stream = archive.open(f"{member.name}.npy")
            self._stream.read(member.header_bytes)
        self._whole = self._fortran() if member.fortran else None
        self._at = 0

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def take(self, count: int) -> np.ndarray:
        """The next `count` entries along the first axis."""
        member = self.member
        self._at += count
        if self._whole is not None:
            return self._whole[self._at - count : self._at]
        return self._read(count * member.row_bytes).reshape(count, *member.shape[1:])

    def _fortran(self) -> np.ndarray:
        """All of an array in Fortran order, whose rows are spread over the file."""
        member = self.member
        advice = "in Fortran order it cannot be read in parts: save np.ascontiguousarray of it. The whole array"
        bounds.check(member.where, advice, member.row_bytes * member.shape[0])
        return self._read(member.row_bytes * member.shape[0]).reshape(member.shape, order="F")

    def _read(self, size: int) -> np.ndarray:
        with decoding(self.member.file, self.member.name):
            data = self._stream.read(size)
        if len(data) != size:
            raise UserError(f"{self.member.where}: the file ends early. {AGAIN}")
        return np.frombuffer(data, self.member.dtype)


def load(archive: zipfile.ZipFile, member: NpzMember) -> np.ndarray:
    """An array of one value per episode, whole."""
    bounds.check(member.where, f"an array of {member.shape[0]:,} episodes", EPISODE_BYTES * member.shape[0])
    with Reader(archive, member) as reader:
        return reader.take(member.shape[0])
