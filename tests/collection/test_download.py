"""Downloads from a server on this machine: what is sound arrives whole, anything else leaves nothing and says why."""

import errno
import hashlib
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support.archives import FILES, make_tar, make_zip, message, tar_info
from support.webserver import Handler, serving

from ovmse.collection import download, public
from ovmse.collection.download import get, https_opener
from ovmse.collection.public import DOWNLOADS, Download

LOCAL = ("127.0.0.1",)


def tree(folder):
    """The files below a folder and their bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture
def offer(server, monkeypatch):
    """Put an archive on the server, and into the table of downloads under the name toy."""

    def put(body, status=200, headers=None, path="/a/toy.zip", **known):
        sized = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
        server.answers[path] = (status, sized if headers is None else headers, body)
        monkeypatch.setitem(DOWNLOADS, "toy", Download(server.url(path), "toy:1", "vault", "", "the authors", **known))

    return put


def fetch(out, **options):
    return get("toy", out, opener=https_opener(LOCAL), **options)


def refused(out, **options):
    """What a download that fails says, having left nothing."""
    before = set(out.parent.iterdir())
    says = message(fetch, out, **options)
    assert set(out.parent.iterdir()) == before, "something was left behind"
    assert not out.exists()
    return says


# --- a sound download


@pytest.mark.parametrize("kind", ["zip", "deflated", "tar", "gz", "bz2", "xz"])
def test_an_archive_arrives_whole(offer, tmp_path, kind):
    members = [(tar_info(name), data) for name, data in FILES.items()]
    folders = [(tar_info("./toy.vlt", type=tarfile.DIRTYPE), b"")]
    body = {
        "zip": lambda: make_zip({"toy.vlt/": b"", **FILES}),
        "deflated": lambda: make_zip(compression=zipfile.ZIP_DEFLATED),
        "tar": lambda: make_tar(folders + members),
    }.get(kind, lambda: make_tar(folders + members, f"w:{kind}"))()
    offer(body, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    assert fetch(tmp_path / "out") == tmp_path / "out"
    assert tree(tmp_path / "out") == FILES
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_was_seen_and_what_comes_next_is_said(offer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OVMSE_DATASETS", raising=False)
    body = make_zip()
    offer(body)
    console = Console(file=StringIO(), width=200)
    path = fetch(None, console=console)
    text = console.file.getvalue()
    assert path == Path("datasets/downloads/toy") and tree(path) == FILES
    assert f"sha256:{hashlib.sha256(body).hexdigest()} (not known before" in text
    assert "Source: the authors; licence: not stated there" in text
    for quality in ("Good", "Poor"):
        command = f"ovmse import {path}/toy.vlt/{quality} --format vault --out datasets/toy-{quality.lower()}"
        assert f"Next: {command}\n" in text


def test_an_answer_without_a_length(offer, tmp_path):
    offer([make_zip()], headers={})
    assert tree(fetch(tmp_path / "out")) == FILES


def test_a_redirect_within_what_is_allowed_is_followed(offer, server, tmp_path):
    offer(make_zip())
    server.answers["/moved"] = server.answers["/a/toy.zip"]
    server.answers["/a/toy.zip"] = (302, {"Location": "/moved", "Content-Length": "0"}, b"")
    assert tree(fetch(tmp_path / "out")) == FILES and server.asked == ["/a/toy.zip", "/moved"]


# --- the way there


def test_unknown_names_and_a_target_in_use(offer, server, tmp_path):
    offer(make_zip())
    assert "unknown public dataset 'og-marl-smac-4m'" in message(get, "og-marl-smac-4m", tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    assert "output directory in use" in message(fetch, tmp_path / "used")
    assert tree(tmp_path / "used") == {"file": b"mine"} and server.asked == []


def test_nothing_is_asked_for_in_the_clear(offer, server, tmp_path):
    offer(make_zip())
    says = message(get, "toy", tmp_path / "out")  # the opener that users have
    assert "fetched over https only" in says and server.asked == [] and list(tmp_path.iterdir()) == []


def test_a_redirect_to_http_is_refused(offer, server, tmp_path):
    offer(b"", status=302, headers={"Location": server.url("/moved", host="localhost"), "Content-Length": "0"})
    server.answers["/moved"] = (200, {}, make_zip())
    assert "https only" in refused(tmp_path / "out") and server.asked == ["/a/toy.zip"]


def test_a_redirect_to_a_file_is_refused(offer, server, tmp_path):
    (tmp_path / "toy.zip").write_bytes(make_zip())
    offer(b"", status=302, headers={"Location": f"file://{tmp_path}/toy.zip", "Content-Length": "0"})
    assert "302" in refused(tmp_path / "out")
    assert {type(h).__name__ for h in https_opener().handlers}.isdisjoint({"FileHandler", "FTPHandler", "DataHandler"})


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_over_https(server, tmp_path, monkeypatch):
    """A certificate that is not trusted, a redirect from https to http, and a sound download."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        ["openssl", *words.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/toy.zip"] = (200, {}, make_zip())
    server.answers["/clear"] = (302, {"Location": server.url("/toy.zip"), "Content-Length": "0"}, b"")

    def known(path):
        monkeypatch.setitem(DOWNLOADS, "toy", Download(server.url(path, "https"), "toy:1", "vault", "", ""))

    known("/toy.zip")
    assert "certificate" in message(get, "toy", tmp_path / "out")
    opener = https_opener(context=ssl.create_default_context(cafile=certificate))
    assert tree(get("toy", tmp_path / "out", opener=opener)) == FILES
    known("/clear")
    says = message(get, "toy", tmp_path / "second", opener=opener)
    assert says.startswith("http://") and "https only" in says


@pytest.mark.parametrize(("status", "says"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_an_error_of_the_server(offer, tmp_path, status, says):
    offer(b"sorry", status=status)
    text = refused(tmp_path / "out")
    assert says in text and "/a/toy.zip" in text and "browser" in text


def test_nobody_answers(offer, server, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setitem(DOWNLOADS, "toy", Download(f"http://127.0.0.1:{port}/toy.zip", "", "vault", "", ""))
    assert "can't be reached" in refused(tmp_path / "out")


def test_a_server_that_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/toy.zip"
        monkeypatch.setitem(DOWNLOADS, "toy", Download(url, "", "vault", "", ""))
        assert "timed out" in refused(tmp_path / "out")


# --- what came


def test_a_truncated_answer(offer, tmp_path):
    body = make_zip()
    offer(body[:-100], headers={"Content-Length": str(len(body))})
    assert f"expected {len(body)} bytes, got {len(body) - 100} of them" in refused(tmp_path / "out")


def test_a_truncated_answer_in_chunks(offer, tmp_path):
    offer(b"3e8\r\n" + b"x" * 500, headers={"Transfer-Encoding": "chunked"})
    Handler.protocol_version = "HTTP/1.1"
    try:
        assert "broke off" in refused(tmp_path / "out")
    finally:
        Handler.protocol_version = "HTTP/1.0"


@pytest.mark.parametrize("place", [(urllib.request.OpenerDirector, "open"), (download, "save")])
def test_an_address_or_a_length_that_python_cannot_read(offer, tmp_path, monkeypatch, place):
    def read(*_, **__):
        raise ValueError("Invalid IPv6 URL")

    offer(make_zip())
    monkeypatch.setattr(*place, read)
    assert "broke off: Invalid IPv6 URL" in refused(tmp_path / "out")


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2", "-5", "many"])
def test_a_length_that_is_no_number(offer, tmp_path, length):
    offer(make_zip(), headers={"Content-Length": length})
    assert tree(fetch(tmp_path / "out")) == FILES


def test_another_size_than_is_known(offer, server, tmp_path):
    body = make_zip()
    offer(body, bytes=len(body) + 1)
    assert f"expected {len(body) + 1} bytes, the server offers {len(body)}" in refused(tmp_path / "out")
    offer([body], headers={}, bytes=len(body) - 1)
    assert f"expected {len(body) - 1} bytes, got more than them" in refused(tmp_path / "out")
    offer([body], headers={}, bytes=len(body) + 1)
    assert f"got {len(body)} of them" in refused(tmp_path / "out")


def test_an_endless_answer_is_cut_off(offer, tmp_path):
    offer(itertools.repeat(bytes(2**16)), headers={}, bytes=1000)
    assert "got more than them" in refused(tmp_path / "out")


def test_another_hash_than_is_known(offer, tmp_path):
    offer(make_zip(), sha256="0" * 64)
    text = refused(tmp_path / "out")
    assert f"expected SHA-256 {'0' * 64}, got " in text
    assert "another file" in text


def test_a_page_instead_of_an_archive(offer, tmp_path):
    offer(b"<!doctype html><title>Log in</title>")
    assert "neither a zip nor a tar: it begins with b'<!doctype html>" in refused(tmp_path / "out")


def test_no_room(offer, server, tmp_path, monkeypatch):
    body = make_zip()
    offer(body)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=len(body)))
    assert f"{2 * len(body)} bytes are needed, {len(body)} are free" in refused(tmp_path / "out")


@pytest.mark.parametrize("when", ["saving", "unpacking"])
def test_the_disk_fills_up(offer, tmp_path, monkeypatch, when):
    offer(make_zip())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if when == "saving":
        monkeypatch.setattr(download, "save", full)
    else:
        second = iter([os.fsync, full])
        monkeypatch.setattr(os, "fsync", lambda handle: next(second)(handle))
    text = refused(tmp_path / "out")
    assert "the disk is full" in text and str(tmp_path / "out") in text


@pytest.mark.slow
def test_a_download_that_is_killed_leaves_no_dataset(offer, server, tmp_path):
    body = make_zip()

    def slowly():
        for _ in range(1000):
            yield bytes(2**16)
            time.sleep(0.1)

    offer(slowly(), headers={"Content-Length": str(2**26)})
    code = (
        "import sys; from pathlib import Path; from ovmse.collection import download, public\n"
        f"public.DOWNLOADS['toy'] = public.Download({DOWNLOADS['toy'].url!r}, '', 'vault', '', '')\n"
        "download.get('toy', Path(sys.argv[1]), opener=download.https_opener(('127.0.0.1',)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")])
    try:
        for _ in range(3000):
            if any(path.stat().st_size > 0 for path in tmp_path.glob(".out.*.partial/toy.zip")):
                break
            time.sleep(0.01)
        else:
            pytest.fail("the download never began")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
    offer(body)
    assert tree(fetch(tmp_path / "out")) == FILES  # what the killed one left is in nobody's way


def test_a_zip_that_leaves_its_folder_is_refused_as_a_download(offer, tmp_path):
    offer(make_zip({"fine": b"1", "../evil": b"2"}))
    assert "'../evil' is not a plain relative path" in refused(tmp_path / "out")


# --- the table


def test_the_table_holds_https_addresses_and_no_guesses():
    names = [name for name in DOWNLOADS if name != "toy"]
    assert len(names) == 22 and len({DOWNLOADS[name].url for name in names}) == 22
    for name in names:
        it = DOWNLOADS[name]
        assert it.url.startswith("https://huggingface.co/datasets/InstaDeepAI/og-marl/") and it.url.endswith(".zip")
        assert it.format == "vault" and it.bytes is None and it.sha256 is None
        assert (it.licence == "Apache-2.0") == name.startswith("og-marl-")
    assert public.DOWNLOADS is DOWNLOADS
