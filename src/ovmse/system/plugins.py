"""Code of the user's own: imported by name, from the current directory, too."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ovmse.core.errors import UserError


def import_own(module: str) -> ModuleType:
    """A module of the user's own; the current directory is looked in, too, from then on."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    with same_directory():
        return importlib.import_module(module)


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
    try:
        return getattr(import_own(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind} {name!r}: there is no module {error.name!r}; is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise UserError(f"{kind} {name!r}: module {module!r} has no attribute {attribute!r}.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user's own raises, an exit included
        raise UserError(f"{kind} {name!r}: can't import {module!r}: {error!r}.") from error
