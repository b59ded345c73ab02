"""Import a log, whatever its format, as a dataset: `ovmse import SOURCE --out DATA`."""

import contextlib
import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console

from ovmse.core.errors import UserError, check_known, number_of, typed_command, unknown
from ovmse.core.types import EnvSpec
from ovmse.data.formats import episodes
from ovmse.data.raw_episode import ImportRules, RawEpisode, Source
from ovmse.data.schema import Metadata
from ovmse.data.writer import DatasetWriter, DiskError
from ovmse.system import provenance
from ovmse.system.files import check_free, check_tree
from ovmse.system.plugins import load_own
from ovmse.system.progress import PATIENCE_SECONDS, ProgressBar

READERS = {name: f"ovmse.data.formats.{name}.reader" for name in ("vault", "pymarl", "minari", "npz", "table")}
HDF5 = (".h5", ".hdf5")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
GROUP_BYTES = 2**23


class Imported(NamedTuple):
    """What an import made. left_out: what was wrong with each broken episode that was left out."""

    path: Path
    metadata: Metadata
    left_out: list[str]


def import_dataset(
    source: str | Path | Iterable[Mapping[str, Any]] | Source,
    out: str | Path,
    *,
    format: str = "auto",
    spec: EnvSpec | None = None,
    name: str = "",
    n_actions: int | None = None,
    options: Mapping[str, Any] | None = None,
    rules: ImportRules | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
    about: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Imported:
    """Read a log episode by episode, in constant memory, and write it as a dataset in the directory `out`.

    source: a file or directory; or the episodes themselves, dictionaries with the arguments of
    `DatasetWriter.add_episode`; or a `Source` that a reader has opened.
    spec: the environment that the log is play of; without it, an environment called `name` with the log's sizes.
    n_actions: A, where neither the log nor `spec` tells it. options: further arguments of the format's reader, such as
    ``{"columns": Columns(obs=("x", "y"))}`` for a table (`ovmse.data.formats.table.reader.read`).
    rules: what to supply where the log is silent. broken: refuse the log at its first episode that cannot be used, or
    skip such episodes. about: behaviour, quality and further attributes of `Metadata`.

    Every assumption is in ``metadata.assumptions``. Raises `UserError` where the log cannot be read or used, or `out`
    is in use; nothing is left of a failed import.
    """
    check_free(Path(out).resolve())
    check_known("value of broken", broken, ("refuse", "skip"))
    episodes.check_actions("n_actions", n_actions)
    opened = open_source(source, format, n_actions if spec is None else spec.n_actions, options, broken)
    rules = rules or ImportRules()
    recipe = {"source": opened.name, "format": opened.format, "rules": dataclasses.asdict(rules), "facts": opened.facts}
    described = {
        "behaviour": "not told",
        "command": provenance.command_line(),
        "source": f"{opened.name} ({opened.format})",
        "recipe": {"made_by": "import"} | recipe,
        **opened.names._asdict(),
    }
    new = [folder for folder in Path(out).resolve().parents if not folder.exists()]
    writer = DatasetWriter(
        out,
        spec=spec,
        name=name,
        n_actions=opened.n_actions,
        rules=rules,
        keep_unfinished=False,
        kinds=opened.kinds,
        about=described | dict(about or {}),
    )
    left_out: list[str] = []
    try:
        _write(writer, opened, left_out if broken == "skip" else None, console)
        if left_out and not writer.episodes:
            there = number_of(len(left_out), "episode")
            raise UserError(f"{opened.name}: of {there} none can be used. First: {left_out[0]}")
        taken = [] if spec is None else [f"taken to be play of {spec.name} as {spec.version} has it"]
        lost = [f"broken episodes left out: {len(left_out)}, the first: {left_out[0]}"] if left_out else []
        metadata = writer.close([*opened.assumed, *taken, *lost])
    except BaseException as error:
        writer.discard()
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, DiskError):
            raise UserError(f"{out}: cannot be written: {error.__cause__}. Make room, and import again.") from error
        raise
    return Imported(Path(out), metadata, left_out)


def open_source(
    source: str | Path | Iterable[Mapping[str, Any]] | Source,
    format: str = "auto",
    n_actions: int | None = None,
    options: Mapping[str, Any] | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
) -> Source:
    """Open a log for reading. broken: as in `import_dataset`, for a reader that takes it.

    Raises `UserError` where it is missing, or of no format that can be read.
    """
    if isinstance(source, Source):
        return source
    if not isinstance(source, str | Path):
        if options or format != "auto":
            raise UserError("episodes from Python have no format and no options.")
        if n_actions is None:
            raise UserError("episodes from Python: say how many actions an agent has (n_actions).")
        return episodes.read(source, n_actions=n_actions)
    path = Path(source)
    if not path.exists():
        raise UserError(f"{path}: no such file or directory.")
    if path.is_dir():
        check_tree(path, links=True)
    elif not path.is_file():
        raise UserError(f"{path}: expected a file or a directory, got a pipe or a device.")
    found = detect(path) if format == "auto" else format
    if found not in READERS and ":" not in found:
        raise unknown("format", found, READERS, "Your own: module:attribute.")
    read = load_own("format", found) if ":" in found else importlib.import_module(READERS[found]).read
    takes = inspect.signature(read).parameters
    if all(one.kind is not one.VAR_KEYWORD for one in takes.values()) and (strange := set(options or {}) - set(takes)):
        raise UserError(f"{path}: the format {found} has no use for {', '.join(sorted(strange))}.")
    given = {"n_actions": n_actions, **({"broken": broken} if "broken" in takes else {}), **(options or {})}
    return read(path, **given)


def detect(path: Path) -> str:
    """The format of a log, by its name and, of a directory, by what is in it. Raises `UserError` where none fits."""
    from ovmse.data.formats import pickles
    from ovmse.data.formats.table import files

    if (path / "zarr.json").is_file():
        raise UserError(f"{path}: is a dataset already. Next: {typed_command('inspect', path)}")
    pickles.refuse(path)
    names = [path.name] if path.is_file() else sorted(entry.name for entry in path.iterdir())
    inside = [name.lower() for name in names]
    if any((path / "data" / name).is_file() for name in ("metadata.json", "main_data.hdf5")):
        return "minari"
    if path.is_dir() and (_is_vault(path) or any(_is_vault(path / name) for name in names)):
        return "vault"
    kinds = {"table": tuple(files.SUFFIXES), "pymarl": HDF5, "npz": (".npz", ".npy")}
    for kind, endings in kinds.items():
        if any(name.endswith(endings) for name in inside):
            return kind
    if any(name.endswith(ARCHIVES) for name in inside):
        raise UserError(f"{path}: an archive. Unpack it, and import what is in it.")
    known = ", ".join(READERS)
    raise UserError(f"{path}: cannot tell its format. Say which with --format ({known}), or see docs/importing.md.")


def _is_vault(path: Path) -> bool:
    """Whether there is a vault, or a directory of vaults."""
    here = (path / "metadata.json").is_file() and (path / "manifest.ocdbt").is_file()
    return here or (path.is_dir() and any((below / "manifest.ocdbt").is_file() for below in path.iterdir()))


def _write(writer: DatasetWriter, source: Source, left_out: list[str] | None, console: Console | None) -> None:
    """All episodes of a log; those that cannot be used are put into `left_out` where there is such a list."""
    with ProgressBar(console, PATIENCE_SECONDS) as bar:
        bar.begin("import", source.total)
        first = 0
        for group in groups(source.episodes):
            try:
                writer.add(group, first)
            except DiskError:
                raise
            except UserError:
                for i, episode in enumerate(group):  # to find the one
                    try:
                        writer.add([episode], first + i)
                    except UserError as error:
                        if left_out is None or isinstance(error, DiskError):
                            raise
                        left_out.append(" ".join(str(error).split()))
            first += len(group)
            bar.update(first, number_of(first, "episode"))


def groups(logged: Iterator[RawEpisode]) -> Iterator[list[RawEpisode]]:
    """Episodes in groups of about `GROUP_BYTES`: arrays are checked and written faster together."""
    group, size = list[RawEpisode](), 0
    for episode in logged:
        group.append(episode)
        size += episode.obs.nbytes + (0 if episode.state is None else episode.state.nbytes)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
