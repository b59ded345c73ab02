"""Code of the user's own: imported by name, from the current directory, too."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_own(module: str) -> ModuleType:
    """A module of the user's own; the current directory is looked in, too, from then on."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module)
