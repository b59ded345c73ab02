"""Which command the user asks for, and what becomes of errors."""

import argparse
import importlib
import re
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.markup import escape

from ovmse.cli.options import parse, parse_subcommand
from ovmse.config import PRESETS, Config
from ovmse.core.errors import UserError, check_known
from ovmse.system.progress import Terminal, say
from ovmse.system.signals import Interrupted

DESCRIPTION = "Train a team from logged play, hand it over, improve it online, and see what it forgot."
COMMANDS = {
    "collect": ("collect:collect", "Train a behaviour team and record how it plays, as a dataset."),
    "import": ("import_log:import_log", "Make a dataset of a log: a Vault, PyMARL's HDF5, Minari, .npz, or a table."),
    "datasets": ("datasets:datasets", "List datasets; make, get, mix and export them."),
    "inspect": ("inspect:inspect", "Check every step of a dataset, and say what to expect of it."),
    "train": ("train:train_command", "Pre-train a team on a dataset, hand it over, fine-tune it online."),
    "improve": ("improve:improve", "A round on logs that a deployed team brought back; says which team to deploy."),
    "trial": ("trial:trial", "Judge a round's new team by episodes that it played itself."),
    "tune": ("tune:tune_command", "Search good settings for several methods, on an equal budget."),
    "sweep": ("sweep:sweep", "Run a grid of training runs, one on each core, and put them in one table."),
    "evaluate": ("evaluate:evaluate", "Play greedily with a run's teams, on fresh episodes."),
    "export": ("export:export", "Write a run's team as files that act by NumPy alone, and check themselves."),
    "report": ("report:report", "Write one page on one or several runs; it opens without a network."),
    "compare": ("compare:compare", "Put several runs in one table and two figures."),
    "select": ("select:select", "Rank the teams of several runs by a log alone."),
}
"""Where each command is, and what it does. Only the one that is asked for is imported."""

EMPTY = re.compile(r"--[\w.-]+=")
"""An option that is given nothing, which as a path would be the current directory."""


class Plain:
    """Shows a warning as one plain line, without the code that raised it; of the compilation cache's only the first."""

    CACHE = re.compile(r"Error (?:read|writ)ing persistent compilation cache entry for '.*?': (.*)", re.DOTALL)

    def __init__(self, console: Terminal):
        self.console, self.said = console, False

    def __call__(self, message: Warning | str, *place: object, **more: object) -> None:
        text = str(message)
        if found := self.CACHE.fullmatch(text):
            if self.said:
                return
            self.said = True
            text = f"a compiled program that was kept can't be used, or none can be kept ({found[1]}): compiled anew. "
            text += "The directory of them (OVMSE_COMPILATION_CACHE, or ~/.cache/ovmse/compiled) can be removed."
        say(self.console, f"warning: {text}")


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns 0, 2 on bad input, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    arguments = sys.argv[1:] if arguments is None else arguments
    errors = Terminal(stderr=True)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = Plain(errors)
            run(arguments)
    except (UserError, OSError) as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    except Interrupted as stopped:
        say(errors, str(stopped))
        return stopped.code
    except KeyboardInterrupt:
        say(errors, "stopped at once; nothing was saved")
        return 130
    return 0


def run(arguments: list[str]) -> None:
    """Run the command that the first word names; without one, help. Raises what the command raises."""
    name, *rest = arguments or ["--help"]
    if name == "--version":
        print(f"ovmse {version('ovmse')}")
        return
    if name not in COMMANDS:
        stubs = {name: _stub(summary) for name, (_, summary) in COMMANDS.items()}
        parse_subcommand(stubs, "ovmse", DESCRIPTION, [name, *rest], ("--version",))
        return
    if empty := [word for word in rest if not word or EMPTY.fullmatch(word)]:
        raise UserError(
            f"an empty word among the options ({empty[0] or repr('')}): is a variable of the shell not set?"
        )
    place, _, attribute = COMMANDS[name][0].partition(":")
    command: Callable[..., Any] = getattr(importlib.import_module(f"ovmse.cli.{place}"), attribute)
    if name == "datasets":
        command(rest)
        return
    if name in ("train", "tune"):
        command = command(defaults(rest))
    parse(command, name, rest)


def defaults(arguments: list[str]) -> Config:
    """The defaults of a run: its own where one is to go on, or those of the preset that is asked for."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?")
    parser.add_argument("--resume", nargs="?", type=Path)
    parser.add_argument("--trust-code", action="store_true")
    given = parser.parse_known_args(arguments)[0]
    if given.resume is not None:
        from ovmse.runs.saved_config import read_config  # for what little of NumPy and msgspec the others do without

        return read_config(given.resume, given.trust_code)
    name = given.preset
    if name is not None:
        check_known("preset", name, PRESETS)
    return Config(**PRESETS.get(name, {}))


def _stub(summary: str) -> Callable[[], None]:
    def command() -> None:
        pass

    command.__doc__ = summary
    return command
