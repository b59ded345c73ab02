"""What readers and exporters share: output that appears whole or not at all, and statements of bounded size."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ovmse.errors import UserError

FACT_BYTES = 4096
FACTS = 64


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden sibling of `path` to write a file or a directory to; it gets its name at the end.

    Nothing is left of it after an error. Raises `UserError` where `path` exists, or the disk refuses.
    """
    _check_absent(path)
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        for entry in (*(partial.rglob("*") if partial.is_dir() else ()), partial):
            _sync(entry)
        _check_absent(path)
        partial.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _check_absent(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: exists already. Choose another name, or remove it first.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def bounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The statements that are JSON values of moderate size; the rest is left out."""
    kept: dict[str, Any] = {}
    for name, value in facts.items():
        try:
            small = len(json.dumps(value, allow_nan=False)) <= FACT_BYTES and len(name) <= 256
        except (TypeError, ValueError, RecursionError):
            continue
        if small and len(kept) < FACTS:
            kept[name] = value
    return kept
