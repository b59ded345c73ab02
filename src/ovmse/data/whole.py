"""Output that appears under its name whole, or not at all."""

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ovmse.errors import UserError
from ovmse.rundir import sync


def check_absent(path: Path) -> None:
    """Raise `UserError` where `path` exists."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: exists already. Choose another name, or remove it first.")


def check_free(path: Path) -> None:
    """Raise `UserError` unless `path` does not exist or is an empty directory."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path}: output directory in use. Choose another, or remove it first.")


@contextlib.contextmanager
def whole(path: Path, check: Callable[[Path], None] = check_absent) -> Iterator[Path]:
    """A hidden sibling of `path` to write a file or a directory to; flushed to disk, it gets its name at the end.

    Nothing is left of it after an error. Raises `UserError` as `check` does, before and after, or where the disk
    refuses.
    """
    check(path)
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        for entry in (*(partial.rglob("*") if partial.is_dir() else ()), partial):
            sync(entry)
        check(path)
        partial.rename(path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
