"""Unpack an archive that nobody vouches for: nothing outside the target, only plain files, nothing without bound.

Names are judged before anything is written, sizes again while it is written: what a header says is a claim.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from ovmse.core.errors import UserError
from ovmse.system import bounds

PIECE = 2**20
BLOCK = 512
MAGIC = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
OPENERS: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "tar": open}
UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
FORBIDDEN = re.compile(r'[\\:\x00-\x1f\x7f<>"|?*]')


class Limits(NamedTuple):
    """What an archive may hold. ratio: unpacked bytes for each packed one, beyond a first `free` bytes."""

    members: int = 100_000
    bytes: int = 2**38
    ratio: float = bounds.RATIO
    free: int = 2**24


class UnpackBudget:
    """Counts what comes out of an archive. Raises `UserError` as soon as it is too much."""

    def __init__(self, archive: Path, limits: Limits):
        self.archive, self.limits = archive, limits
        packed = archive.stat().st_size
        self.most = bounds.stated() or min(limits.bytes, int(packed * limits.ratio) + limits.free)
        self.members = self.bytes = 0
        self.names: dict[str, bool] = {}

    def member(self, name: str, size: int, is_folder: bool) -> PurePosixPath:
        """The path of a member, once it is allowed: nothing that points elsewhere on any system. size: as claimed."""
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or FORBIDDEN.search(name):
            raise refused(self.archive, f"the name {name!r} is not a plain relative path")
        self.members += 1
        if self.members > self.limits.members:
            raise refused(self.archive, f"more than {self.limits.members} members")
        if size < 0 or self.bytes + size > self.most:
            raise refused(
                self.archive,
                f"{name!r} brings it to more than {self.most} bytes unpacked; {bounds.VARIABLE} allows more",
            )
        key = path.as_posix().casefold()  # no other member may have the name, where case is ignored either
        if key in self.names and not (is_folder and self.names[key]):
            raise refused(self.archive, f"{path.as_posix()!r} comes twice")
        self.names[key] = is_folder
        for parent in path.parents[:-1]:
            if not self.names.setdefault(parent.as_posix().casefold(), True):
                raise refused(self.archive, f"{parent.as_posix()!r} is a file and a folder")
        return path

    def spend(self, count: int) -> None:
        """Count bytes that were unpacked."""
        self.bytes += count
        if self.bytes > self.most:
            raise refused(self.archive, f"it holds more than {self.most} bytes, more than its headers say")


def unpack(archive: Path, into: Path, limits: Limits | None = None) -> None:
    """Unpack a zip, or a tar (plain, gz, bz2, xz), into the empty directory `into`.

    Raises `UserError` for anything but plain files and folders with plain relative names, for a name that comes twice,
    for more than `limits`, for members whose size or checksum is not what their header says, and for damage. What was
    written until then is left to the caller.
    """
    budget = UnpackBudget(archive, limits or Limits())
    kind = kind_of(archive)
    try:
        for name, size, is_folder, opened in zipped(archive) if kind == "zip" else tarred(archive, kind, budget):
            target = into / budget.member(name, size, is_folder)
            (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            if not is_folder:
                with opened() as stream:
                    write(stream, target, size, budget)
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; gzip and bz2 raise one without a number for damage
        raise refused(archive, f"it is damaged ({error})") from error


def kind_of(archive: Path) -> str:
    """zip, gz, bz2, xz or tar, by the first bytes."""
    with archive.open("rb") as file:
        head = file.read(512)
    found = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "tar")
    if found == "tar" and head[257:262] != b"ustar":
        raise refused(archive, f"it is neither a zip nor a tar: it begins with {head[:40]!r}")
    return found


Member = tuple[str, int, bool, Callable[[], Any]]
"""A member's name, its size in bytes as its header claims, whether it is a folder, and what begins to read it."""


def zipped(archive: Path) -> Iterator[Member]:
    """The members of a zip, none of them a link, a device, or encrypted."""
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise refused(archive, f"{name!r} is a link or a device")
            if info.flag_bits & 1:
                raise refused(archive, f"{name!r} is encrypted")
            yield name, info.file_size, name.endswith("/"), partial(file.open, info)


def tarred(archive: Path, kind: str, budget: UnpackBudget) -> Iterator[Member]:
    """The members of a tar, none of them a link, a device, or sparse; the tar must end as a tar does."""
    with OPENERS[kind](archive, "rb") as raw:
        guarded = Guarded(raw, budget)
        with tarfile.open(fileobj=cast(Any, guarded), mode="r:") as file:
            for info in file:
                if not (info.isdir() or info.isreg()) or info.issparse():
                    raise refused(archive, f"{info.name!r} is a link, a device or a sparse file")
                yield info.name, info.size, info.isdir(), partial(file.extractfile, info)
        if guarded.last != bytes(BLOCK):  # tarfile takes a damaged header for the end
            raise refused(archive, "it is damaged (its end is missing)")
        while piece := raw.read(PIECE):  # to where the compression's own checksum is
            budget.spend(len(piece))


class Guarded:
    """A stream that is never read far at once, nor skipped far: a compressed header may swell to any size."""

    def __init__(self, stream: io.BufferedIOBase, budget: UnpackBudget):
        self.stream, self.budget, self.last = stream, budget, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE:
            raise refused(self.budget.archive, f"a header asks for {size} bytes")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        headers = 8 * BLOCK * (self.budget.members + 1)
        if whence != 0 or offset > self.budget.most + headers:
            raise refused(self.budget.archive, f"a header points to byte {offset}")
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()


def write(stream: io.BufferedIOBase, target: Path, size: int, budget: UnpackBudget) -> None:
    """Write one member and flush it to disk; it must have the size that its header claims."""
    written = 0
    with target.open("xb") as file:
        while piece := stream.read(PIECE):
            written += len(piece)
            budget.spend(len(piece))
            if written > size:
                break
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if written != size:
        raise refused(budget.archive, f"{target.name!r} has {'more' if written > size else 'less'} than {size} bytes")


def refused(archive: Path, why: str) -> UserError:
    """The error for an archive that is not unpacked."""
    return UserError(f"{archive.name}: not unpacked: {why}.")
