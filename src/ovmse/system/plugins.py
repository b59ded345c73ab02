"""What is imported by name: our environments, and code of the user's own, from the current directory, too."""

import contextlib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ovmse.core.errors import UserError

BUILDERS = {
    "smax": "ovmse.envs.smax:Smax",
    "matrix": "ovmse.envs.matrix:MatrixGame",
    "pettingzoo": "ovmse.envs.pettingzoo:from_module",
    "gymnasium": "ovmse.envs.gymnasium:from_id",
    "jumanji": "ovmse.envs.jumanji:JumanjiTeam",
    "jaxmarl": "ovmse.envs.jaxmarl:JaxMarlTeam",
    "pymarl": "ovmse.envs.pymarl:from_class",
    "smac": "ovmse.envs.starcraft:smac",
    "smacv2": "ovmse.envs.starcraft:smacv2",
    "sumo": "ovmse.envs.sumo:TrafficSignals",
}
"""Environments of this package, by the prefix of their names; here, where naming one brings no JAX."""

ONE_PER_PROCESS = ("sumo",)
"""Prefixes of environments of which a process can have one: the command line gives each a process of its own."""

RULES = {f"sumo:{rule}": f"ovmse.envs.traffic:{rule}" for rule in ("fixed_time", "longest_queue", "max_pressure")}
"""Rules in use of this package, by their names."""

KNOWN_MODULES = ("pettingzoo", "mpe2", "magent2", "lbforaging", "rware")
"""Libraries of environments, which run without being trusted: as installed, never from a directory."""

NAMING_A_MODULE = ("pettingzoo", "pymarl", "gymnasium", "own")
"""Prefixes behind which an environment's name goes on with the module that its code is in."""


def module_of(env: str) -> str | None:
    """The module that an environment's name names, or a network of SUMO's of one's own, which can name files to write;
    None where it is one of ours, or of a package that we depend on."""
    prefix, _, rest = env.partition(":")
    if prefix in NAMING_A_MODULE or rest.endswith(".sumocfg"):
        return rest.partition(":")[0]
    return None if prefix in BUILDERS else prefix


def import_own(kind: str, name: str, module: str) -> ModuleType:
    """The module of a method, an environment or a format (`kind`) of the user's own that they call `name`.

    The current directory is looked in, too, from then on. Raises `UserError` for a module that is not there, then
    caused by a `ModuleNotFoundError`, or can't be imported.
    """
    if (here := str(Path.cwd())) not in sys.path and module.partition(".")[0] not in KNOWN_MODULES:
        sys.path.append(here)
    try:
        with same_directory():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind} {name!r}: there is no module {error.name!r}; is its folder on PYTHONPATH?") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user's own raises, an exit included
        raise UserError(f"{kind} {name!r}: can't import {module!r}: {error!r}.") from error


def version_of(module: str) -> str:
    """The distribution that a module is installed by and its version, such as ``mpe2 1.1.1``.

    module: with or without an attribute behind a colon.
    """
    top = module.partition(":")[0].partition(".")[0]
    distributions = importlib.metadata.packages_distributions().get(top)
    return f"{distributions[0]} {importlib.metadata.version(distributions[0])}" if distributions else f"{top} unknown"


@contextlib.contextmanager
def same_directory() -> Iterator[None]:
    """Go back to the current directory where code of the user's own has left it: a run's paths begin there."""
    here = Path.cwd()
    try:
        yield
    finally:
        if Path.cwd() != here:
            os.chdir(here)


def load_own(kind: str, name: str) -> Any:
    """What ``module:attribute`` names, where the user names a method or a format (`kind`) of their own.

    Raises `UserError` for a module or an attribute that is not there, or a module that can't be imported.
    """
    module, _, attribute = name.partition(":")
    found = import_own(kind, name, module)
    try:
        return getattr(found, attribute)
    except AttributeError as error:
        raise UserError(f"{kind} {name!r}: module {module!r} has no attribute {attribute!r}.") from error
