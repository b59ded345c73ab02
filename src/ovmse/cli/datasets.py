"""`ovmse datasets`: list datasets; make, get, mix and export them."""

import json as jsonlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro

from ovmse.cli.options import Data, Name, parse_subcommand
from ovmse.cli.say import say_made
from ovmse.core.errors import typed_command
from ovmse.data.exporting import Format as ExportFormat
from ovmse.system.progress import Terminal, say


def list_datasets(folder: Path | None = None, thorough: bool = False, json: bool = False) -> None:
    """List datasets: those here, those that come with the package, recipes, and public downloads.

    Args:
        folder: where to look; by default $OVMSE_DATASETS, or datasets in this directory.
        thorough: read and check all values, not only that all files are there.
        json: print them as JSON.
    """
    from ovmse.collection.catalogue import listing, print_listing

    entries = listing(folder, thorough=thorough)
    if json:
        print(jsonlib.dumps([asdict(entry) for entry in entries], indent=1))
    else:
        print_listing(entries, Terminal())


def make_dataset(
    name: Name,
    out: Path | None = None,
    trust_code: bool = False,
) -> None:
    """Make a dataset by its recipe: a name of the catalogue, or an existing dataset once more.

    Args:
        name: such as smax-3m-medium, or a dataset's directory.
        out: the directory to write; by default NAME (or NAME-again) in the folder of datasets.
        trust_code: import and run the environment of somebody's own that the dataset's recipe names.
    """
    from ovmse.collection.rebuild import make
    from ovmse.training.display import Display

    console = Terminal()
    made = make(name, out, Display(console), trust_code)
    say(console, f"{made}\nNext: {typed_command('inspect', made.dataset.path)}")


def get_dataset(name: Name, out: Path | None = None) -> None:
    """Download a public dataset; nothing else in this library uses the network.

    Args:
        name: its name in the catalogue.
        out: the directory to write; by default downloads/NAME in the folder of datasets.
    """
    from ovmse.collection.download import get

    get(name, out, Terminal())


def mix_datasets(
    parts: tyro.conf.Positional[tuple[str, ...]],
    out: Path,
    episodes: int | None = None,
    return_range: str | None = None,
    seed: int = 0,
    allow_version_mismatch: bool = False,
) -> None:
    """Mix datasets, or draw from one: A:0.5 B:0.5.

    Args:
        parts: datasets with their shares of the result's episodes; without shares, equal ones.
        out: the directory to write.
        episodes: episodes of the result; by default the most that the shares allow.
        return_range: LOW:HIGH, only episodes with such returns.
        seed: of the draw and the order.
        allow_version_mismatch: mix play of different versions or settings of an environment.
    """
    from ovmse.collection.mix import mix, parse_range

    dataset = mix(
        parts,
        out,
        episodes=episodes,
        return_range=None if return_range is None else parse_range(return_range),
        seed=seed,
        allow_version_mismatch=allow_version_mismatch,
    )
    say_made(Terminal(), dataset.metadata, dataset.path, out)


def export_dataset(data: Data, out: Path, format: ExportFormat = "auto") -> None:
    """Write a dataset as a Vault (NAME.vlt/UID), PyMARL's HDF5 (.h5), or a table (.parquet, .arrow, .csv).

    Args:
        data: the dataset's directory, or the name of one that comes with the package.
        out: the file or directory to write.
        format: where the ending of `out` does not tell.
    """
    from ovmse.data.exporting import export_dataset as run

    console = Terminal()
    for text in run(data, out, format):
        say(console, f"not carried over: {text}")
    say(console, f"Written: {out}\nNext: {typed_command('import', out)} --out AGAIN reads it back")


DATASETS: dict[str, Callable[..., Any]] = {
    "list": list_datasets,
    "make": make_dataset,
    "get": get_dataset,
    "mix": mix_datasets,
    "export": export_dataset,
}


def datasets(arguments: list[str]) -> None:
    """`ovmse datasets`, which without a further word lists them."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["list", *arguments]
    parse_subcommand(DATASETS, "ovmse datasets", "Datasets: those there are, and new ones.", arguments)
