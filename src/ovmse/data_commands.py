"""The commands on logged play: collect, inspect, import, and all of `ovmse datasets`."""

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from ovmse.data.collect import Collecting
from ovmse.data.exporting import Format as ExportFormat
from ovmse.data.files import Metadata
from ovmse.data.formats.columns import Columns, load_columns
from ovmse.data.importing import Format
from ovmse.data.logged import Rules
from ovmse.display import Display
from ovmse.errors import UserError


def collect(collecting: tyro.conf.OmitArgPrefixes[Collecting]) -> None:
    """Train a behaviour team and record how it plays, as a dataset."""
    from ovmse.data.collect import collect as run

    console = Console()
    dataset = run(collecting, Display(console))
    _say_made(console, dataset.metadata, dataset.path, collecting.out)


def inspect(
    data: tyro.conf.Positional[str],
    out: Path | None = None,
    figure: Path | None = None,
    seed: int = 0,
    clone: bool = True,
) -> None:
    """Check every step of a dataset, show what is in it, and say what to expect of it.

    Exit code 2 where the dataset cannot be used.

    Args:
        data: the dataset's directory, or the name of one that comes with the package.
        out: the folder to write the page and the numbers into; by default NAME-inspect in this directory.
        figure: write the figure of the profile here, too (.png, .svg or .pdf).
        seed: seed of the sample and of the fit to the behaviour.
        clone: fit a small network to the behaviour, to see how random it is (seconds).
    """
    from ovmse import machine
    from ovmse.data.inspect import inspect as run

    machine.use()
    report = run(data, out, Console(), figure, seed, clone)
    if not report.usable:
        raise UserError(f"{data} cannot be used as it is; what to do stands above and in {report.written[0]}.")


def import_log(
    source: tyro.conf.Positional[Path],
    out: Path,
    rules: Annotated[Rules, tyro.conf.arg(name="")] = Rules(),  # noqa: B008
    columns: Columns = Columns(),  # noqa: B008
    mapping: Path | None = None,
    missing_agents: Literal["refuse", "idle"] | None = None,
    separator: str | None = None,
    format: Format = "auto",
    env: str | None = None,
    env_settings: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    name: str = "",
    n_actions: int | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
    behaviour: str = "not told",
    quality: str = "",
) -> None:
    """Make a dataset of a log: a Vault, PyMARL's HDF5, Minari, .npz, or a table (Parquet, CSV, Arrow).

    What the log lacks is supplied; every assumption is printed and kept. docs/importing.md has the formats.

    Args:
        source: the log, a file or a directory.
        out: the dataset's directory; it must be empty or not there yet.
        rules: what to supply where the log is silent.
        columns: a table's columns, where they do not have their usual names.
        mapping: a JSON or TOML file that names a table's columns instead.
        missing_agents: an agent without a row at a step of a table is refused, or idle (out of play).
        separator: between the cells of a CSV file, where its first line does not tell.
        format: the log's format; by default it goes by the names of files.
        env: the environment that the log is play of, such as smax:3m, where the team is to be improved online.
        env_settings: an option handed to the environment, such as max_steps=60; may be repeated.
        name: what to call an environment that exists in the log only.
        n_actions: actions of an agent, where the log has no masks and its largest action is not the last.
        broken: at an episode that cannot be used, refuse the log or skip the episode.
        behaviour: who played, in words.
        quality: the level of play, such as medium.
    """
    from ovmse import envs
    from ovmse.config import settings
    from ovmse.data.importing import import_dataset

    console = Console()
    if mapping is not None:
        if columns != Columns():
            raise UserError("name the columns either by --mapping or by --columns, not by both.")
        columns = load_columns(mapping)
    options = {
        "columns": None if columns == Columns() else columns,
        "missing_agents": missing_agents,
        "separator": separator,
    }
    made = import_dataset(
        source,
        out,
        format=format,
        spec=None if env is None else envs.make(env, **settings(env_settings)).spec,
        name=name,
        n_actions=n_actions,
        options={key: value for key, value in options.items() if value is not None},
        rules=rules,
        broken=broken,
        about={"behaviour": behaviour, "quality": quality},
        console=console,
    )
    for text in made.metadata.assumptions:
        console.print(f"assumed: {text}", markup=False, highlight=False, soft_wrap=True)
    for text in made.left_out[:5]:
        console.print(f"left out: {text}", markup=False, highlight=False, soft_wrap=True)
    _say_made(console, made.metadata, made.path, out)


def list_datasets(folder: Path | None = None, thorough: bool = False, json: bool = False) -> None:
    """List datasets: those here, those that come with the package, recipes, and public downloads.

    Args:
        folder: where to look; by default $OVMSE_DATASETS, or datasets in this directory.
        thorough: read and check all values, not only that all files are there.
        json: print them as JSON.
    """
    from ovmse.data.catalogue import as_json, listing, print_listing

    entries = listing(folder, thorough=thorough)
    if json:
        print(jsonlib.dumps(as_json(entries), indent=1))
    else:
        print_listing(entries, Console())


def make_dataset(name: tyro.conf.Positional[str], out: Path | None = None) -> None:
    """Make a dataset by its recipe: a name of the catalogue, or an existing dataset once more.

    Args:
        name: such as smax-3m-medium, or a dataset's directory.
        out: the directory to write; by default NAME (or NAME-again) in the folder of datasets.
    """
    from ovmse.data.make import make

    console = Console()
    made = make(name, out, Display(console))
    console.print(str(made), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Next: ovmse inspect {quote(str(made.dataset.path))}", markup=False, highlight=False, soft_wrap=True)


def get_dataset(name: tyro.conf.Positional[str], out: Path | None = None) -> None:
    """Download a public dataset; nothing else in this library uses the network.

    Args:
        name: its name in the catalogue.
        out: the directory to write; by default downloads/NAME in the folder of datasets.
    """
    from ovmse.data.download import get

    get(name, out, Console())


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
    from ovmse.data.mix import mix, parse_range

    dataset = mix(
        parts,
        out,
        episodes=episodes,
        return_range=None if return_range is None else parse_range(return_range),
        seed=seed,
        allow_version_mismatch=allow_version_mismatch,
    )
    _say_made(Console(), dataset.metadata, dataset.path, out)


def export_dataset(data: tyro.conf.Positional[str], out: Path, format: ExportFormat = "auto") -> None:
    """Write a dataset as a Vault (.vlt), PyMARL's HDF5 (.h5), or a table (.parquet, .arrow, .csv).

    Args:
        data: the dataset's directory, or the name of one that comes with the package.
        out: the file or directory to write.
        format: where the ending of `out` does not tell.
    """
    from ovmse.data.exporting import export_dataset as run

    console = Console()
    for text in run(data, out, format):
        console.print(f"not carried over: {text}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Written: {out}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"Next: ovmse import {quote(str(out))} --out AGAIN reads it back", highlight=False, markup=False, soft_wrap=True
    )


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
    tyro.extras.subcommand_cli_from_dict(
        DATASETS, prog="ovmse datasets", description="Datasets: those there are, and new ones.", args=arguments
    )


def _say_made(console: Console, found: Metadata, path: Path, out: Path) -> None:
    won = "" if found.win_rate is None else f", win rate {100 * found.win_rate:.1f} %"
    text = f"{found.episodes} episodes, {found.steps} steps, return {found.return_mean:.2f}{won}: {path}"
    console.print(escape(text), highlight=False, soft_wrap=True)
    console.print(escape(f"Next: ovmse inspect {quote(str(out))}"), highlight=False, soft_wrap=True)
