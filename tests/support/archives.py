"""Archives made in memory, sound and otherwise, for the tests of downloading and unpacking."""

import io
import os
import tarfile
import zipfile

import pytest

from ovmse.core.errors import UserError

FILES = {
    "toy.vlt/Good/metadata.json": b"{}",
    "toy.vlt/Good/data": os.urandom(3000),
    "toy.vlt/Poor/metadata.json": b"{}",
}


def message(call, *args, **kwargs):
    """What the `UserError` of a call says."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def make_zip(files=FILES, **options):
    """The bytes of a zip; a name may come as `ZipInfo`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar(members, mode="w", **options):
    """The bytes of a tar of `TarInfo`s and their data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_info(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info
