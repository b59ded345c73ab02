"""Export a dataset to a format that others read."""

import importlib
import re
from pathlib import Path
from typing import Literal

from ovmse.core.errors import UserError, check_known
from ovmse.data.dataset import Dataset

Format = Literal["auto", "vault", "pymarl", "table"]
WRITERS = {name: f"ovmse.data.formats.{name}.writer" for name in ("vault", "pymarl", "table")}
VAULT = ".vlt"
ENDINGS = {".h5": "pymarl", ".hdf5": "pymarl", VAULT: "vault", ".parquet": "table", ".arrow": "table", ".csv": "table"}


def export_dataset(data: str | Path | Dataset, out: str | Path, format: Format = "auto") -> list[str]:
    """Write a dataset in another format to `out`; return what the format has no place for, in sentences.

    format: vault (a directory as of OG-MARL), pymarl (an HDF5 file as of CFCQL) or table (Parquet, Arrow or CSV);
    auto goes by the ending of `out`: .vlt, .h5 or .hdf5, .parquet, .arrow or .csv. A vault is NAME.vlt/UID; as NAME.vlt
    alone its UID is the dataset's quality, such as Medium.
    Raises `UserError` where `out` is in use, or nothing tells its format.
    """
    path = Path(out).resolve()
    vaults = path.parent.suffix.lower() == VAULT  # NAME.vlt/UID
    by_ending = ENDINGS.get(path.suffix.lower(), "vault" if vaults else None)
    found = by_ending if format == "auto" else format
    if found is None:
        raise UserError(f"{out}: cannot tell the format. Use one of the endings {', '.join(ENDINGS)}, or --format.")
    check_known("format", found, WRITERS)
    killed = found == "vault" and path.is_dir() and all(part.name.startswith(".") for part in path.iterdir())
    if path.exists() and not killed:  # such an export leaves NAME.vlt with what it had half written
        raise UserError(f"{out}: exists already. Choose another place, or remove it first.")
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    if found == "vault" and path.suffix.lower() == VAULT and not vaults:
        path /= re.sub(r"\W+", "-", dataset.metadata.quality).strip("-").capitalize() or "Dataset"
    return importlib.import_module(WRITERS[found]).write(dataset, path)
