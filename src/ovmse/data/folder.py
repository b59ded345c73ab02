"""Where datasets lie: a path, the folder of datasets, or the package."""

import os
from importlib import resources
from pathlib import Path

from ovmse.core.errors import UserError, typed_command, unknown


def shipped() -> tuple[str, ...]:
    """The names of the datasets that come with the package."""
    return tuple(sorted(p.name for p in _shipped_root().glob("*") if p.is_dir() and not p.name.startswith(".")))


def _shipped_root() -> Path:
    return Path(str(resources.files("ovmse.data"))) / "shipped"


def root() -> Path:
    """The folder of datasets: the environment variable OVMSE_DATASETS, or ``datasets`` in the current directory."""
    return Path(os.environ.get("OVMSE_DATASETS") or "datasets").expanduser()


def find(path_or_name: str | os.PathLike[str]) -> Path:
    """The directory of a dataset: a path, the name of one in the folder of datasets, or of a shipped one."""
    path = Path(path_or_name)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(
            f"{path}: expected a dataset's directory, got a file. A log becomes one by {typed_command('import', path)}"
        )
    if (here := root() / path).is_dir() and path.name:
        return here
    if (names := shipped()) and (name := str(path_or_name)) in names:
        return _shipped_root() / name
    hint = "Or give the path of a dataset's directory; `ovmse collect` writes one."
    if not names:
        raise UserError(f"{path}: no such dataset. {hint}")
    raise unknown("dataset", str(path_or_name), names, hint)
