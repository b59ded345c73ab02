"""The catalogue: datasets that are here, that can be made, and that can be downloaded. `docs/catalogue.md` explains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zarr
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from ovmse.collection import recipes
from ovmse.collection.public import DOWNLOADS
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.folder import find, root, shipped
from ovmse.data.schema import KINDS, Metadata
from ovmse.data.zarr_files import read_metadata
from ovmse.render import format as fmt
from ovmse.system.files import as_type, check_tree

Kind = Literal["shipped", "local", "recipe", "download"]


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue. None and empty text are what is not known (yet).

    name: what other commands take; bytes: on disk, or of the download; made: how it was made, or how to have it.
    damage: why it can't be used.
    """

    name: str
    kind: Kind
    env: str = ""
    quality: str = ""
    episodes: int | None = None
    bytes: int | None = None
    checksum: str = ""
    made: str = ""
    path: str = ""
    damage: str = ""


def listing(folder: Path | None = None, more: Sequence[Path] = (), thorough: bool = False) -> list[Entry]:
    """Every dataset that is known: shipped, local, recipes that are not made yet, public downloads.

    folder: of local datasets, `root()` by default. more: further datasets or folders of them. thorough: read all
    values too, as training does; otherwise only what is missing is noticed. A damaged dataset is listed as such.
    Raises `UserError` where a path in `more` is not there.
    """
    if gone := [path for path in more if not path.is_dir()]:
        raise UserError(f"{gone[0]}: no such directory. Give a dataset, or a folder of datasets.")
    paths = dict.fromkeys(path for place in (folder or root(), *more) for path in datasets_in(place))
    here = [
        *(local(find(name), name, "shipped", thorough) for name in shipped()),
        *(local(path, str(path), "local", thorough) for path in paths),
    ]
    done = {Path(entry.path).name for entry in here if not entry.damage}
    return [*here, *(entry for entry in elsewhere() if entry.kind == "download" or entry.name not in done)]


def datasets_in(folder: Path) -> Iterator[Path]:
    """The datasets in a folder, by name, or the folder itself if it is one; damaged ones too, hidden ones not."""
    if _looks_like_one(folder):
        yield folder
    elif folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.name[0] != "." and _looks_like_one(path))


def _looks_like_one(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("zarr.json", *KINDS))


def local(path: Path, name: str, kind: Kind, thorough: bool = False) -> Entry:
    """The entry of a dataset on disk, damaged or not."""
    size = None
    try:
        check_tree(path)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        found = Dataset.open(path).metadata if thorough else read_metadata(path)
        check_files(path)
        rest = (found.quality, found.episodes, size, found.checksum)
        return Entry(name, kind, found.env.name, *rest, made=how_made(found), path=str(path))
    except (UserError, OSError) as error:
        return Entry(name, kind, bytes=size, path=str(path), damage=str(error))


def check_files(path: Path) -> None:
    """Raise `UserError` where an array or chunks of it are missing; their values are not read."""
    for field in KINDS:
        try:
            chunks = zarr.open_array(path / field, mode="r", zarr_format=3).nchunks
        except Exception as error:
            raise UserError(f"{path / field}: missing or damaged: {error!r}.") from error
        files = sum(file.is_file() and file.name != "zarr.json" for file in (path / field).rglob("*"))
        if files < chunks:
            raise UserError(f"{path / field}: {chunks - files} of {chunks} chunks are missing.")


def how_made(found: Metadata) -> str:
    """Where a dataset comes from, in a few words."""
    recipe = found.recipe or {}
    if recipe.get("made_by") == "mix":
        parts = as_type(recipe.get("parts", []), list[dict[str, Any]], "parts of a recipe")
        return "mixed of " + ", ".join(str(part.get("name")) for part in parts)
    if found.source:
        return f"imported from {found.source}"
    return "collected" if recipe or found.command.startswith("ovmse collect") else "written"


def elsewhere() -> Iterator[Entry]:
    """The recipes with a name, and the public downloads."""
    for name, recipe in recipes.named().items():
        yield Entry(name, "recipe", recipe.env, recipe.quality, recipe.episodes, made=f"ovmse datasets make {name}")
    for name, it in DOWNLOADS.items():
        checksum = f"sha256:{it.sha256}" if it.sha256 else ""
        yield Entry(name, "download", it.env, bytes=it.bytes, checksum=checksum, made=f"ovmse datasets get {name}")


def print_listing(entries: Sequence[Entry], console: Console) -> None:
    """Print the catalogue as tables of at most 100 columns: what is here, what can be made, what can be downloaded."""
    here = [entry for entry in entries if entry.kind in ("shipped", "local")]
    table = _table("Here", "name", "env", "quality", "episodes", "size", "checksum", "made")
    # the other columns need 60; a name that fits beside them is printed whole, so that it can be copied
    table.columns[0].no_wrap = all(len(entry.name) <= console.width - 60 for entry in here)
    for it in here:
        last = "[bold red]damaged[/]" if it.damage else escape(it.made.partition(" ")[0])
        row = (it.env, it.quality, fmt.steps(it.episodes), decimal(it.bytes or 0), it.checksum.partition(":")[2][:8])
        table.add_row(escape(it.name), *map(escape, row), last)
    console.print(table if here else "No dataset here yet.")
    for it in here:
        if it.damage:
            console.print(f"[bold red]damaged:[/] {escape(it.damage)}", highlight=False)
    table = _table("To make: ovmse datasets make NAME", "name", "episodes", "QUALITY")
    made = [entry for entry in entries if entry.kind == "recipe"]
    for env in dict.fromkeys(entry.env for entry in made):
        own = [entry for entry in made if entry.env == env]
        stem = own[0].name.removesuffix(own[0].quality) + "QUALITY"
        table.add_row(stem, fmt.steps(own[0].episodes), ", ".join(entry.quality for entry in own))
    if made:
        console.print(table)
    table = _table("To download: ovmse datasets get NAME", "name", "environment", "size", "format", "licence")
    for it in entries:
        if it.kind == "download":
            found, size = DOWNLOADS[it.name], "" if it.bytes is None else decimal(it.bytes)
            table.add_row(it.name, it.env, size, found.format, found.licence or "not stated")
    if table.rows:
        console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), width=None)
    for column in columns:
        numbers = column in ("episodes", "size")
        whole = numbers or column in ("checksum", "made")
        table.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=whole)
    return table
