"""Archives that are not what they seem: refused, with nothing written outside of the target and nothing unbounded."""

import gzip
import os
import shutil
import stat
import tarfile
import zipfile

import pytest
from support.archives import make_tar, make_zip, message, tar_info

from ovmse.collection.unpack import Limits, unpack

EVIL_NAMES = (
    "../evil",
    "a/../../evil",
    "/evil",
    "//evil",
    "..\\evil",
    "a\\b",
    "C:\\evil",
    "C:evil",
    "a:b",
    "..",
    "a\x01b",
)


def test_names_that_point_elsewhere(tmp_path):
    for name in EVIL_NAMES:
        for kind, body in (
            ("zip", make_zip({"fine": b"1", name: b"2"})),
            ("tar", make_tar([(tar_info("fine"), b"1"), (tar_info(name), b"2")])),
        ):
            says = refused_archive(body, tmp_path / kind)
            assert "is not a plain relative path" in says, name
    info = zipfile.ZipInfo("innocent")
    info.filename = "in\x00nocent"  # cut at the zero byte by readers
    assert "is not a plain relative path" in refused_archive(make_zip([(info, b"")]), tmp_path / "zero")


def refused_archive(body, where, limits=None):
    """What unpacking says; nothing is written outside of the target."""
    shutil.rmtree(where, ignore_errors=True)
    (where / "into" / "deep").mkdir(parents=True)
    (where / "archive").write_bytes(body)
    says = message(unpack, where / "archive", where / "into" / "deep", limits)
    assert [path.name for path in (where / "into").iterdir()] == ["deep"]
    assert sorted(path.name for path in where.iterdir()) == ["archive", "into"]
    assert not any(path.is_symlink() for path in where.rglob("*"))
    return says


def link(name, kind, to="/etc/passwd"):
    return tar_info(name, type=kind, linkname=to)


@pytest.mark.parametrize(
    "info",
    [
        link("a", tarfile.SYMTYPE),
        link("a", tarfile.SYMTYPE, to="fine"),
        link("a", tarfile.LNKTYPE, to="fine"),
        tar_info("a", type=tarfile.CHRTYPE),
        tar_info("a", type=tarfile.BLKTYPE),
        tar_info("a", type=tarfile.FIFOTYPE),
        tar_info("a", type=tarfile.GNUTYPE_SPARSE),
    ],
)
def test_a_tar_holds_plain_files_only(tmp_path, info):
    body = make_tar([(tar_info("fine"), b"1"), (info, b"")])
    assert "is a link, a device or a sparse file" in refused_archive(body, tmp_path / "tar")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_holds_plain_files_only(tmp_path, kind):
    info = zipfile.ZipInfo("a")
    info.external_attr = (kind | 0o777) << 16
    assert "'a' is a link or a device" in refused_archive(make_zip([("fine", b"1"), (info, b"fine")]), tmp_path / "zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("a", "./a"), ("d/a", "d//a"), ("a/b", "a"), ("a", "a/b"), ("a/b", "A")]
)
def test_no_name_comes_twice(tmp_path, names):
    for kind, body in (
        ("zip", make_zip([(name, b"1") for name in names])),
        ("tar", make_tar([(tar_info(name), b"1") for name in names])),
    ):
        says = refused_archive(body, tmp_path / kind)
        assert "comes twice" in says or "is a file and a folder" in says


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_a_bomb_is_refused(tmp_path, kind):
    zeros = bytes(2**24 + 2**20)
    body = (
        make_zip({"zeros": zeros}, compression=zipfile.ZIP_DEFLATED)
        if kind == "zip"
        else make_tar([(tar_info("zeros"), zeros)], f"w:{kind}")
    )
    assert len(body) < 2**17
    limits = Limits(ratio=10.0, free=2**16)
    assert "bytes unpacked" in refused_archive(body, tmp_path / kind, limits)
    assert not any(path.is_file() for path in (tmp_path / kind / "into").rglob("*"))  # refused by its header already
    small = Limits(bytes=2**20)
    assert f"more than {2**20} bytes" in refused_archive(body, tmp_path / kind, small)


def test_a_bomb_behind_the_end_of_a_tar(tmp_path):
    body = gzip.compress(make_tar([(tar_info("a"), b"1")]) + bytes(2**22))
    assert "holds more than" in refused_archive(body, tmp_path / "gz", Limits(bytes=2**20))


def test_too_many_members(tmp_path):
    files = {f"{i}": b"" for i in range(11)}
    assert "more than 10 members" in refused_archive(make_zip(files), tmp_path / "a", Limits(members=10))
    tarred = make_tar([(tar_info(name), b"") for name in files])
    assert "more than 10 members" in refused_archive(tarred, tmp_path / "a", Limits(members=10))


def lying_zip(claimed, real=5000):
    """A zip with a member of `real` bytes whose headers claim another size."""
    body = bytearray(make_zip({"liar": bytes(real)}, compression=zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = body.index(signature) + offset
        assert int.from_bytes(body[at : at + 4], "little") == real
        body[at : at + 4] = claimed.to_bytes(4, "little")
    return bytes(body)


@pytest.mark.parametrize("claimed", [10, 4999, 5001, 100_000])
def test_a_header_that_lies_about_the_size(tmp_path, claimed):
    says = refused_archive(lying_zip(claimed), tmp_path / "zip")
    assert "bytes" in says or "damaged" in says
    written = [path.stat().st_size for path in (tmp_path / "zip" / "into" / "deep").iterdir()]
    assert all(size <= claimed for size in written)


def test_a_tar_whose_headers_lie(tmp_path):
    body = bytearray(make_tar([(tar_info("a"), b"1" * 600), (tar_info("b"), b"2")]))
    sound = tarfile.TarInfo("a")
    sound.size = 2**40
    assert "bytes unpacked" in refused_archive(sound.tobuf() + bytes(1024), tmp_path / "large")
    body[512 * 3 + 3] ^= 1  # in the header of b, whose checksum no longer holds
    assert "damaged" in refused_archive(bytes(body), tmp_path / "header")
    assert "damaged" in refused_archive(bytes(body[:1000]), tmp_path / "cut")
    text = tar_info("x", type=tarfile.XHDTYPE)
    text.size = 2**30
    swollen = gzip.compress(text.tobuf() + bytes(2**22))
    assert "a header asks for" in refused_archive(swollen, tmp_path / "swollen")


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2", "xz"])
def test_damage_is_found(tmp_path, kind):
    noise = os.urandom(40_000)
    body = (
        make_zip({"a": noise}, compression=zipfile.ZIP_DEFLATED)
        if kind == "zip"
        else make_tar([(tar_info("a"), noise)], "w" if kind == "tar" else f"w:{kind}")
    )
    cut = refused_archive(body[: len(body) // 2], tmp_path / kind)
    assert "damaged" in cut or "bytes" in cut
    if kind != "tar":  # which has no checksum of its contents
        flipped = bytearray(body)
        flipped[len(body) // 2] ^= 1
        assert "damaged" in refused_archive(bytes(flipped), tmp_path / kind)


def test_an_encrypted_zip(tmp_path):
    body = bytearray(make_zip({"a": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + offset] |= 1
    assert "is encrypted" in refused_archive(bytes(body), tmp_path / "zip")
