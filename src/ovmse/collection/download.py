"""Download a public dataset, on explicit request only: HTTPS, verified, unpacked safely, whole or not at all."""

import errno
import hashlib
import http.client
import re
import shutil
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from ovmse.collection.public import DOWNLOADS, Download
from ovmse.collection.unpack import Limits, unpack
from ovmse.core.errors import UserError, check_known, typed_command
from ovmse.data.folder import root
from ovmse.system.files import check_free
from ovmse.system.progress import ProgressBar, Terminal

PIECE = 2**16
TIMEOUT_SECONDS = 60.0
UNANSWERED = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class HttpsOnly(urllib.request.BaseHandler):
    """Refuses a request in the clear, a redirected one too; `plain_hosts` are for tests."""

    def __init__(self, plain_hosts: Collection[str] = ()):
        self.plain_hosts = plain_hosts

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        if urlsplit(request.full_url).hostname not in self.plain_hosts:
            raise UserError(f"{request.full_url}: refused: data is fetched over https only. Nothing was downloaded.")
        return request


def https_opener(plain_hosts: Collection[str] = (), context: Any = None) -> urllib.request.OpenerDirector:
    """What opens an address: https, through the proxies that the environment names; no other protocol or file."""
    opener = urllib.request.OpenerDirector()
    handlers = (
        HttpsOnly(plain_hosts),
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),  # reached by redirects, which `HttpsOnly` then refuses by name
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def get(
    name: str,
    out: Path | None = None,
    console: Console | None = None,
    *,
    opener: urllib.request.OpenerDirector | None = None,
    limits: Limits | None = None,
) -> Path:
    """Download a public dataset by its name, unpack it, and return its directory.

    out: the directory to write; by default ``downloads/NAME`` in the folder of datasets. It appears when everything is
    there; a failed download leaves nothing. console: for progress, the checksum seen and the next command.
    Raises `UserError` for unknown names, where `out` is in use, the server can't be reached or answers with an error,
    something else than https is asked for, size or checksum differ, the archive can't be unpacked safely, or the disk
    is full.
    """
    check_known("public dataset", name, DOWNLOADS)
    found, target = DOWNLOADS[name], out or root() / "downloads" / name
    console = console or Terminal(quiet=True)
    seen = fetch_into(found, target.resolve(), console, opener or https_opener(), limits)
    how = "as expected" if found.sha256 else "not known before: note it to compare with later"
    console.print(f"sha256:{seen} ({how})", highlight=False, soft_wrap=True)
    console.print(f"Source: {found.page}; licence: {found.licence or 'not stated there'}", highlight=False)
    for command in next_commands(name, found, target):
        console.print(f"Next: {escape(command)}", highlight=False, soft_wrap=True)
    return target


def fetch_into(
    found: Download, target: Path, console: Console, opener: urllib.request.OpenerDirector, limits: Limits | None = None
) -> str:
    """Fetch and unpack an archive into the directory `target`; returns the archive's SHA-256 (hex)."""
    check_free(target)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    archive, content = partial / Path(urlsplit(found.url).path).name, partial / "content"
    try:
        content.mkdir(parents=True)
        with ProgressBar(console) as bar:
            bar.begin(archive.name, None)
            seen = fetch(found, archive, opener, bar)
        unpack(archive, content, limits)
        check_free(target)
        content.rename(target)
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise UserError(f"{target}: cannot be written: {why}. Nothing was kept. Make room, or choose --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return seen


def fetch(found: Download, archive: Path, opener: urllib.request.OpenerDirector, bar: ProgressBar) -> str:
    """Write what the server sends to `archive`, check its size and hash, and return the SHA-256 (hex)."""
    url, by_hand = found.url, "Try again later, or fetch it with a browser and unpack it yourself."
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "ovmse"})
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            expected = expected_bytes(found, answer.headers.get("Content-Length"))
            free, folder = shutil.disk_usage(archive.parent).free, archive.parents[1]
            if expected is not None and free < 2 * expected:  # the archive and, at the least, as much unpacked
                needed = f"{2 * expected} bytes are needed, {free} are free"
                raise UserError(f"{folder}: {needed}. Make room, or choose --out.")
            count, seen = save(answer, archive, expected, bar)
    except UserError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(f"{url}: the server answered {error.code} {error.reason}. {by_hand}") from error
    except http.client.IncompleteRead as error:
        raise UserError(f"{url}: the answer broke off early. {by_hand}") from error
    except (*UNANSWERED, ValueError) as error:  # of an address or a length that the server made up
        why = getattr(error, "reason", None) or error
        raise UserError(f"{url}: the server can't be reached, or broke off: {why}. {by_hand}") from error
    if expected is not None and count != expected:
        word = "more than" if count > expected else f"{count} of"
        raise UserError(f"{url}: expected {expected} bytes, got {word} them. {by_hand}")
    if found.sha256 and seen != found.sha256:
        raise UserError(
            f"{url}: expected SHA-256 {found.sha256}, got {seen}: this is another file than the one that was examined. "
            "It was removed. If its authors have published a new version, fetch it with a browser."
        )
    return seen


def expected_bytes(found: Download, header: str | None) -> int | None:
    """The size that is known, else the one that the server states; both must agree."""
    stated = int(header) if header and re.fullmatch("[0-9]{1,18}", header) else None
    if stated is not None and found.bytes is not None and stated != found.bytes:
        raise UserError(
            f"{found.url}: expected {found.bytes} bytes, the server offers {stated}: this is another file than the "
            "one that was examined. If its authors have published a new version, fetch it with a browser."
        )
    return found.bytes if stated is None else stated


def save(answer: Any, archive: Path, expected: int | None, bar: ProgressBar) -> tuple[int, str]:
    """Write an answer to a file, not much beyond the expected size; returns the bytes that came and their SHA-256."""
    hashed, count, of = hashlib.sha256(), 0, "" if expected is None else f" of {decimal(expected)}"
    bar.total = expected
    with archive.open("xb") as file:
        while piece := answer.read(PIECE):
            file.write(piece)
            hashed.update(piece)
            count += len(piece)
            bar.update(count, f"{decimal(count)}{of}, {decimal(int(count / max(bar.elapsed(), 1e-3)))}/s")
            if expected is not None and count > expected:
                break
    return count, hashed.hexdigest()


def next_commands(name: str, found: Download, target: Path) -> list[str]:
    """What to type next: an import of each vault that the archive held."""
    vaults = sorted(path.parent for path in target.rglob("metadata.json")) if found.format == "vault" else []
    commands = []
    for path in vaults or [target]:
        out = name if path == target else f"{name}-{path.name.lower()}"  # of several vaults, the last folder's name
        commands.append(typed_command("import", path, "--format", found.format, "--out", root() / out))
    return commands
