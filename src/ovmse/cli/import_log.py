"""`ovmse import`."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ovmse.cli.say import say_made
from ovmse.core.errors import UserError, typed_command
from ovmse.data.formats.table.columns import Columns, load_columns
from ovmse.data.formats.table.rules import TableRules
from ovmse.data.raw_episode import ImportRules
from ovmse.system.files import check_absent, write_text
from ovmse.system.progress import Terminal, say


def import_log(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LOG")],
    out: Path | None = None,
    rules: Annotated[ImportRules, tyro.conf.arg(name="")] = ImportRules(),  # noqa: B008
    columns: Columns = Columns(),  # noqa: B008
    mapping: Path | None = None,
    draft: Path | None = None,
    table: Annotated[TableRules, tyro.conf.arg(name="")] = TableRules(),  # noqa: B008
    format: str = "auto",
    env: str | None = None,
    env_settings: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    env_python: Path | None = None,
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
        out: the dataset's directory; it must be empty or not there yet. Needed, but for a draft.
        rules: what to supply where the log is silent.
        columns: a table's columns, where they do not have their usual names.
        mapping: a JSON or TOML file that names a table's columns instead.
        draft: import nothing, but write such a file with what is found of a table's columns, to be edited.
        table: how the rows of a table are read, where they are not as expected.
        format: vault, pymarl, minari, npz, table, or a reader of your own, module:attribute; by default it goes by the
            names of files.
        env: the environment that the log is play of, such as smax:3m, where the team is to be improved online.
        env_settings: an option handed to the environment, such as max_steps=60; may be repeated.
        env_python: a Python interpreter in which that environment runs, with its own versions of packages.
        name: what to call an environment that exists in the log only.
        n_actions: actions of an agent, where the log has no masks and its largest action is not the last.
        broken: at an episode that cannot be used, refuse the log or skip the episode.
        behaviour: who played, in words.
        quality: the level of play, such as medium.
    """
    from ovmse.data.importing import import_dataset
    from ovmse.envs.settings import make_by_options

    console = Terminal()
    if mapping is not None:
        if columns != Columns():
            raise UserError("name the columns either by --mapping or by --columns, not by both.")
        columns = load_columns(mapping)
    if draft is not None:
        _write_draft(source, columns, table, draft, out or Path(source.name.partition(".")[0]), console)
        return
    if out is None:
        raise UserError("say where the dataset is to be written: --out, such as --out my-data.")
    options: dict[str, Any] = {one.name: getattr(table, one.name) for one in fields(table)}
    options = {name: value for name, value in options.items() if value != getattr(TableRules(), name)}
    if columns != Columns():
        options["columns"] = columns
    made = import_dataset(
        source,
        out,
        format=format,
        spec=None if env is None else make_by_options(env, env_settings, env_python).spec,
        name=name,
        n_actions=n_actions,
        options=options,
        rules=rules,
        broken=broken,
        about={"behaviour": behaviour, "quality": quality},
        console=console,
    )
    for text in made.metadata.assumptions:
        say(console, f"assumed: {text}")
    for text in made.left_out[:5]:
        say(console, f"left out: {text}")
    say_made(console, made.metadata, made.path, out)


def _write_draft(source: Path, columns: Columns, table: TableRules, draft: Path, out: Path, console: Terminal) -> None:
    """Write what is found of a table's columns to a new file."""
    from ovmse.data.formats.table.reader import columns_draft

    check_absent(draft)
    write_text(draft, columns_draft(source, columns, table))
    say(
        console,
        f"Written: {draft}. Correct it, then: {typed_command('import', source, '--mapping', draft, '--out', out)}",
    )
