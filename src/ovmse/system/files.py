"""Output that appears under its name whole, or not at all; and JSON, read as the types that it should be."""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ovmse.core.errors import UserError

JSON_NAMES = {"object": "a JSON object", "array": "a list"}
"""What msgspec's names of types are called in messages, where that differs."""


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
    """As `replacing`, in a folder that is made where it is missing. Raises `UserError` where the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, check) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


@contextlib.contextmanager
def replacing(path: Path, check: Callable[[Path], None] = lambda path: None) -> Iterator[Path]:
    """A hidden sibling of `path` to write a file or a directory to; flushed to disk, it takes that place at the end.

    Nothing is left of it after an error. Raises what `check` raises, before and after.
    """
    check(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().int % 10**9}")
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            sync(entry)
        check(path)
        temporary.replace(path)
        sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold a file, or a directory's entries."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    with replacing(path) as temporary:
        temporary.touch()
        append_json_lines(temporary, rows)


def append_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a file of JSON lines that is there, and flush them."""
    with path.open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_json(path: Path, kind: Any = Any) -> Any:
    """The JSON of a file as a type (see `as_type`); None if there is no such file. Raises `UserError` otherwise."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))  # by Python, since msgspec refuses NaN
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}). Repair or remove it.") from error
    return as_type(value, kind, path)


def read_json_lines(path: Path) -> list[Any]:
    """The rows of a file of JSON lines. Raises `UserError` if it is missing or a line can't be read."""
    return list(numbered_json_lines(path).values())


def numbered_json_lines(path: Path, cut_off: Callable[[int], None] | None = None) -> dict[int, Any]:
    """The rows of a file of JSON lines, by the line's number from 1; empty lines are left out.

    cut_off: is told the number of a last line that can't be read, which is then left out, too.
    Raises `UserError` if the file is missing or a line can't be read.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing: {path.parent} is not a run's directory. Give the folder that training wrote."
        )
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    filled = {number: line for number, line in enumerate(lines, start=1) if line.strip()}
    rows = {}
    for number, line in filled.items():
        try:
            rows[number] = json.loads(line)
        except (ValueError, RecursionError) as error:
            if cut_off is None or number != max(filled):
                raise UserError(f"{path}, line {number}: not valid JSON ({error}). Repair or remove it.") from error
            cut_off(number)
    return rows


def as_type(value: Any, kind: Any, where: object) -> Any:
    """A value read from JSON as a type that msgspec knows, such as a dataclass or a `TypedDict`.

    A field that is missing is an error unless it has a default; one that is not known is left out.
    Raises `UserError` that begins with `where` and says which field is wrong, what was expected and what came.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=lambda other, text: other(text))  # a `Path` of its text
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_in_words(str(error), value)}.") from error


def _in_words(said: str, value: Any) -> str:
    """What msgspec says is wrong with a value, such as ``seeds[0].agree: expected bool or null, got 'yes'``."""
    said, _, place = said.partition(" - at `$")
    field = f"{place[:-1].lstrip('.')}: " if place else ""
    match = re.fullmatch("Expected `(.+)`, got `.+`", said)
    if match is None:
        return field + said
    for name in re.findall(r"[^.\[\]`]+", place):
        value = value[int(name) if isinstance(value, list) else name]
    expected = " or ".join(JSON_NAMES.get(name, name) for name in match[1].split(" | "))
    return f"{field}expected {expected}, got {type(value).__name__ if isinstance(value, dict | list) else repr(value)}"
