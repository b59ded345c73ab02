"""A run's directory: what was asked, what it ran on, its metrics, its teams. `docs/metrics.md` describes the files."""

import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import ovmse
from ovmse.errors import UserError


def create(out: Path) -> Path:
    """Make a run's directory. Raises `UserError` if it holds anything already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} is in use: it already holds {'files' if out.is_dir() else 'a file'}. "
            "Choose another --out, or continue an interrupted run with: ovmse train --resume " + str(out)
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't create {out}: {error.strerror}. Choose another --out.") from error
    return out


def next_free(name: str, parent: Path = Path("runs")) -> Path:
    """``runs/NAME``, or with the next number after it where that is in use."""
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    endings = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    return next(path for ending in endings if not (path := parent / f"{stem}{ending}").exists())


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
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a file of JSON lines and flush them."""
    with path.open("a") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a file of JSON lines whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def versions() -> dict[str, str]:
    """What the run ran on."""
    packages = ("jax", "jaxlib", "equinox", "optax", "jaxmarl", "zarr", "numpy")
    found = {name: _version(name) for name in packages}
    return {
        "ovmse": ovmse.__version__,
        "git_revision": git_revision(),
        **{name: version for name, version in found.items() if version},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": ", ".join(sorted({device.device_kind for device in jax.local_devices()})),
        "command": command_line(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def git_revision() -> str:
    """The revision of the source that runs, with ``+changes`` where files differ from it; empty if unknown."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here))
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def command_line() -> str:
    """The command as a user would type it again."""
    program = Path(sys.argv[0]).name
    words = ["ovmse" if program in ("ovmse", "__main__.py") else program, *sys.argv[1:]]
    return " ".join(words)


def read_json(path: Path) -> Any:
    """The JSON of a file; None if there is no such file. Raises `UserError` if it can't be read."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}.") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines. Raises `UserError` if it is missing or a line can't be read."""
    if not path.is_file():
        raise UserError(f"{path} is missing: {path.parent} is not a run's directory.")
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: can't be read as JSON ({error}).") from error
    return rows
