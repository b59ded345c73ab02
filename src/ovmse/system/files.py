"""Output that appears under its name whole, or not at all."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ovmse.core.errors import UserError


def check_absent(path: Path) -> None:
    """Raise `UserError` where `path` exists."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: exists already. Choose another name, or remove it first.")


def check_free(path: Path) -> None:
    """Raise `UserError` unless `path` does not exist or is an empty directory."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path}: output directory in use. Choose another, or remove it first.")


@contextlib.contextmanager
def atomic_path(path: Path, check: Callable[[Path], None] = check_absent) -> Iterator[Path]:
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


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold a file, or a directory's entries."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a file of JSON lines that is there, and flush them."""
    with path.open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The JSON of a file; None if there is no such file. Raises `UserError` if it can't be read."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}.") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines. Raises `UserError` if it is missing or a line can't be read."""
    if not path.is_file():
        raise UserError(f"{path} is missing: {path.parent} is not a run's directory.")
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: can't be read as JSON ({error}).") from error
    return rows
