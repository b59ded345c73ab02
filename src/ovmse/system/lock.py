"""One process at a time on a directory; a second one is told the first one's host and process id."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ovmse.core.errors import Unwritable, UserError
from ovmse.system.files import regular

NAME = ".ovmse-lock"


@contextlib.contextmanager
def held(folder: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Hold the lock of a directory that is there; the system lets go of it however the process ends.

    Raises `Unwritable` where another process holds it, or nothing can be written there. What a process left that ended
    without letting go is stale: `say` tells whose it was.
    """
    file = _open(folder)
    try:
        if gone := _owner(file):
            say(f"{folder} was left by process {gone['pid']} on {gone['host']}, which ended without letting go")
        file.truncate(0)
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        file.write(json.dumps(mine) + "\n")
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
        with contextlib.suppress(OSError):
            file.close()


def wait_until_free(folder: Path, say: Callable[[str], None], seconds: float = 0.2) -> None:
    """Wait as long as another process holds the lock of a directory; `say` tells whose it is."""
    said = False
    while (folder / NAME).exists():
        try:
            with held(folder):
                return
        except Unwritable as error:
            if not said:
                say(str(error))
            said = True
            time.sleep(seconds)


def _open(folder: Path) -> TextIOWrapper:
    path = folder / NAME
    while True:
        try:
            file = open(path, "a+", encoding="utf-8", opener=regular)  # noqa: SIM115
        except UserError as error:
            raise Unwritable(str(error)) from error
        except OSError as error:
            raise Unwritable(f"{folder} can't be written to: {error.strerror}.") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(file) or {"pid": "unknown", "host": "unknown", "since": "unknown"}
            file.close()
            raise Unwritable(
                f"{folder} is in use by process {owner['pid']} on {owner['host']}, since {owner['since']}. "
                "Wait for it, or stop it."
            ) from None
        except OSError as error:
            file.close()
            raise Unwritable(
                f"{folder}: its file system has no locks ({error.strerror}). Choose another place."
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # its owner removed it meanwhile


def _owner(file: TextIOWrapper) -> dict[str, Any] | None:
    """Who wrote the lock file; None if it is empty or can't be read."""
    file.seek(0)
    try:
        found = json.loads(file.read(4096))
        return {key: found[key] for key in ("host", "pid", "since")}
    except (ValueError, KeyError, TypeError):
        return None
