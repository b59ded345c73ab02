"""Output that appears under its name whole, or not at all; and JSON, read as the types that it should be."""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ovmse.core.errors import UserError

DEEPEST = 50
JSON_NAMES = {"object": "a JSON object", "array": "a list"}
"""What msgspec's names of types are called in messages, where that differs."""


def regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """The number of a regular file that is opened as `flags` say; what ``open`` takes as its `opener`.

    Raises `UserError` for a link, which could lead anywhere, and for what might never end: a pipe or a device.
    """
    refused = UserError(f"{path} is a link, a pipe or a device, which is not followed: remove it.")
    try:
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise (refused if error.errno in (errno.ELOOP, errno.ENXIO) else error) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        os.close(number)
        raise UserError(f"{path}: expected a file, got a directory.") if is_folder else refused
    return number


def check_tree(folder: Path, links: bool = False) -> None:
    """Raise `UserError` unless all that lies in a directory is directories and regular files.

    links: whether links to such are accepted; else none is, since what is read or written there would lie elsewhere.
    """
    left = [folder]
    while left:
        for entry in sorted(os.scandir(left.pop()), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
            elif not (entry.is_file(follow_symlinks=links) or (links and entry.is_dir())):
                kind = "a link" if entry.is_symlink() else "a pipe or a device"
                raise UserError(f"{entry.path} is {kind}, which is not followed: put the file itself there.")


def make_folder(path: Path) -> Path:
    """The directory, made where it is missing. Raises `UserError` where a link has its name."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, which is not followed: remove it.")
    path.mkdir(exist_ok=True)
    return path


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
    except KeyboardInterrupt:
        for _ in range(5):  # Zarr's thread goes on writing for a moment
            shutil.rmtree(temporary, ignore_errors=True)
            time.sleep(0.05)
        raise
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


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may hold halves of characters


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, in a folder that is made where it is missing."""
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    with replacing(path) as temporary:
        temporary.touch()
        append_json_lines(temporary, rows)


def append_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a file of JSON lines that is there, and have the disk hold them."""
    with open(path, "r+", encoding="utf-8", opener=regular) as file:
        file.seek(0, os.SEEK_END)
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, kind: Any = Any) -> Any:
    """The JSON of a file as a type (see `as_type`); None if there is no such file. Raises `UserError` otherwise."""
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            value = parse_json(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError:
        raise
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
    try:
        with open(path, encoding="utf-8", errors="replace", opener=regular) as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} is missing: {path.parent} is not a run's directory. Give the folder that training wrote."
        ) from None
    filled = {number: line for number, line in enumerate(lines, start=1) if line.strip()}
    rows = {}
    for number, line in filled.items():
        try:
            rows[number] = parse_json(line)
        except (ValueError, RecursionError) as error:
            if cut_off is None or number != max(filled):
                raise UserError(f"{path}, line {number}: not valid JSON ({error}). Repair or remove it.") from error
            cut_off(number)
    return rows


def parse_json(text: str) -> Any:
    """JSON as Python reads it, NaN included, which msgspec refuses.

    Raises `ValueError` for what has no one meaning or would break what reads it: a field that comes twice, a whole
    number beyond 64 bits, and what is nested deeper than `DEEPEST`.
    """
    value = json.loads(text, object_pairs_hook=_fields, parse_int=_whole)
    layer = [value]
    for _ in range(DEEPEST):
        layer = [inner for outer in layer if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not layer:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} comes twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"the number {digits[:20]}… is too large")
    return int(digits)


def as_type(value: Any, kind: Any, where: object, strict: bool = True) -> Any:
    """A value read from JSON as a type that msgspec knows, such as a dataclass or a `TypedDict`.

    A field that is missing is an error unless it has a default; one that is not known is left out. strict: a text is no
    number, and none of the other things that it may say.
    Raises `UserError` that begins with `where` and says which field is wrong, what was expected and what came.
    """
    try:
        # what msgspec does not know is made of the text: a `Path`
        return msgspec.convert(value, kind, strict=strict, dec_hook=lambda other, text: other(text))
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_in_words(str(error), value)}.") from error
    except UnicodeError as error:
        raise UserError(f"{where}: a text holds half of a character: {error}.") from error


def typed(where: str, types: dict[str, Any], values: Any) -> dict[str, Any]:
    """The values of the named types, out of a JSON object that may hold more."""
    found = as_type(values, dict[str, Any], where)
    return {name: as_type(found.get(name, NOTHING), kind, f"{where}: {name}") for name, kind in types.items()}


class _Nothing:
    def __repr__(self) -> str:
        return "'nothing'"


NOTHING = _Nothing()
"""Stands for a value that is missing: it is of no type that a field can have."""


def _in_words(said: str, value: Any) -> str:
    """What msgspec says is wrong with a value, such as ``seeds[0].agree: expected bool or null, got 'yes'``."""
    said, _, place = said.partition(" - at `$")
    field = f"{place[:-1].lstrip('.')}: " if place else ""
    match = re.fullmatch("Expected `(.+)`, got `.+`", said)
    if match is None:
        return field + said
    for name in re.findall(r"\.\.\.|[^.\[\]`]+", place):
        if name == "...":  # one of an object's fields, any of them
            return field + said
        value = value[int(name) if isinstance(value, list) else name]
    expected = " or ".join(JSON_NAMES.get(name, name) for name in match[1].split(" | "))
    return f"{field}expected {expected}, got {type(value).__name__ if isinstance(value, dict | list) else repr(value)}"
