"""How words become a command's options: by tyro, but what is out of range is refused as all bad input is."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from ovmse.core.errors import UserError, check_known

RULES = ConstructorRegistry()
Data = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]]
"""The directory of a dataset, or its name."""
Name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
"""A name of the catalogue."""
Run = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
"""The directory of a run."""


class Refused(Exception):
    """A `UserError` on its way through tyro, which would put a `ValueError` into a box with names of our code."""


def parse(command: Callable[..., Any], name: str, words: list[str]) -> None:
    """Run a command with the options that the words name. Raises `UserError` for values out of range."""
    choose_colours()
    try:
        tyro.cli(command, prog=f"ovmse {name}", args=words, registry=RULES)
    except Refused as refused:
        raise refused.args[0] from None


def parse_subcommand(
    commands: dict[str, Callable[..., Any]], prog: str, about: str, words: list[str], options: tuple[str, ...] = ()
) -> None:
    """Run the command that the first word names, or print help on all. Raises `UserError` for an unknown one.

    options: words that stand for no command, beside that for help.
    """
    choose_colours()
    if words[0] not in ("-h", "--help"):
        kind, known = ("option", ("--help", *options)) if words[0].startswith("-") else ("command", commands)
        check_known(kind, words[0], known, f"See {prog} --help.")
    tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=about, args=words)


def choose_colours() -> None:
    """Colours in tyro's words only where both streams reach a terminal, and https://no-color.org is not asked for."""
    colours = sys.stdout.isatty() and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    tyro._experimental_options["ansi_codes"] = colours


@RULES.struct_rule
def _dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass, made by tyro's own rule; its `UserError` leaves tyro as it is."""
    if not dataclasses.is_dataclass(info.type) or info in _asked:
        return None
    _asked.append(info)
    found = ConstructorRegistry.get_struct_spec(info)
    _asked.remove(info)
    if not isinstance(found, StructConstructorSpec):
        return None

    @functools.wraps(found.instantiate, updated=())
    def make(**fields: Any) -> Any:
        try:
            return found.instantiate(**fields)
        except UserError as error:
            raise Refused(error) from error

    return dataclasses.replace(found, instantiate=make)


_asked: list[StructTypeInfo] = []
