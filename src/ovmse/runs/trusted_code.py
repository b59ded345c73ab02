"""What is read from a disk can name code: an environment or a method of somebody's own, to be imported and called.

Runs do in their `config.json`, datasets in their recipe. Whoever reads a name passes `check` before following it: its
user must say that such code may run. What comes with ovmse needs no such word.
"""

import hashlib
import sys
from pathlib import Path

from ovmse.config import Config
from ovmse.core.errors import UserError

KNOWN_WORLDS = ("smax", "matrix")
KNOWN_MODULES = ("pettingzoo", "mpe2")  # of PettingZoo's environments


def names_of_code(config: Config) -> list[str]:
    """What of a configuration is not ovmse's own, or a known library's."""
    prefix, _, rest = config.env.partition(":")
    known = prefix in KNOWN_WORLDS or (prefix == "pettingzoo" and rest.partition(".")[0] in KNOWN_MODULES)
    found = [] if known else [f"the environment {config.env!r}"]
    return found + [f"the method {name!r}" for name in _own_methods(config)]


def _own_methods(config: Config) -> list[str]:
    return [name for name in config.method.split("+") if ":" in name]


def checksums(config: Config) -> dict[str, str]:
    """The beginning of the SHA-256 of each file of the user's own that a configuration names; they are imported."""
    prefix = config.env.partition(":")[0]
    worlds = [] if prefix in (*KNOWN_WORLDS, "pettingzoo") else [prefix]
    names = worlds + [name.partition(":")[0] for name in _own_methods(config)]
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] for name, file in files.items() if file}


def check(where: object, config: Config, trusted: bool) -> None:
    """Raise `UserError` where a configuration that was read from `where` names code that it takes trust to run."""
    if (found := names_of_code(config)) and not trusted:
        raise UserError(
            f"{where} names code that would be imported and run: {' and '.join(found)}. If you trust that directory "
            "and that code, add --trust-code."
        )
