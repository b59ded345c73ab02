"""A run's directory (`docs/metrics.md`): a free place for a new one, and what is said where it can't be written to."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovmse.core.errors import Unwritable, UserError, typed_command


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """What a full disk, a read-only or a vanished directory raises within, as a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{error.filename or out} can't be used: {error.strerror or error}. When that is mended, go on with: "
            + typed_command("train", "--resume", out)
        ) from error


def create(out: Path) -> Path:
    """Make a directory to write into. Raises `UserError` if it holds anything already (but hidden files)."""
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise UserError(
            f"{out} is in use: it already holds {'files' if out.is_dir() else 'a file'}. Choose another --out."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't create {out}: {error.strerror}. Choose another --out.") from error
    return out


def next_free(name: str, parent: Path = Path("runs")) -> Path:
    """``runs/NAME``, or with the next number after it where that is in use."""
    endings = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    return next(path for ending in endings if not (path := parent / f"{slug(name)}{ending}").exists())


def slug(name: str) -> str:
    """A name as a directory can have it: other letters than these of all scripts, digits, ``-``, ``_``, ``.`` are
    ``-``."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
