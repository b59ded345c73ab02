"""A run's directory: what was asked, what it ran on, its metrics, its teams. `docs/metrics.md` describes the files."""

import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import ovmse
from ovmse.errors import Unwritable, UserError


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """What a full disk, a read-only or a vanished directory raises within, as a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{error.filename or out} can't be used: {error.strerror or error}. When that is mended, go on with: "
            f"ovmse train --resume {out}"
        ) from error


JAX_SETTINGS = (
    "jax_threefry_partitionable", "jax_default_prng_impl", "jax_enable_x64", "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
)  # fmt: skip
"""Settings of JAX that change what is computed."""


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


def versions() -> dict[str, str]:
    """What the run ran on."""
    return {
        "ovmse": ovmse.__version__,
        "git_revision": git_revision(),
        **_packages(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _devices(),
        "command": command_line(),
    }


def ran_on() -> dict[str, Any]:
    """All that a run's bits depend on beside its settings and data: where one differs they may not be the same."""
    return {
        "source": source_checksum(),
        **_packages(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()} {_processor()}".strip(),
        "device": _devices(),
        "cores": jax.local_device_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        **{name: str(jax.config.values[name]) for name in JAX_SETTINGS},
    }


@functools.cache
def source_checksum() -> str:
    """The beginning of the SHA-256 of the package's source."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(str(path.relative_to(here)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _packages() -> dict[str, str]:
    packages = ("jax", "jaxlib", "equinox", "optax", "jaxmarl", "pettingzoo", "mpe2", "zarr", "numpy")
    return {name: version for name in packages if (version := _version(name))}


def _devices() -> str:
    return ", ".join(sorted({device.device_kind for device in jax.local_devices()}))


def _processor() -> str:
    """The processor's model where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested JSON object as one level with dotted names; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two JSON objects, in words."""
    old, new = flatten(there), flatten(here)
    keys = [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]
    return [f"{key} {old.get(key, 'not given')!r} there, {new.get(key, 'not given')!r} here" for key in keys]
