"""An environment by the options of the command line: `--env`, `--env-settings`, `--env-python`."""

import re
import sys
from pathlib import Path
from typing import Any

from ovmse.core.errors import UserError
from ovmse.core.literals import parse_value
from ovmse.core.schedules import MAKERS
from ovmse.envs.naming import make
from ovmse.envs.process import ProcessEnv
from ovmse.envs.protocol import AnyEnvironment
from ovmse.system.plugins import ONE_PER_PROCESS


def make_by_options(env: str, env_settings: tuple[str, ...], env_python: Path | None = None) -> AnyEnvironment:
    """The environment of a name and settings as they are typed, in a process of its own where `env_python` is given, or
    where a process can have one alone.

    Raises `UserError` for whatever of them can't be used.
    """
    settings = parse_settings(env_settings)
    if env_python is None and env.partition(":")[0] in ONE_PER_PROCESS:
        env_python = Path(sys.executable)
    return make(env, **settings) if env_python is None else ProcessEnv(env_python, env, settings)


def parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Pairs such as ``max_steps=60`` as keyword arguments; raises `UserError` for one without ``=``."""
    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise UserError(f"an environment's setting reads name=value, such as max_steps=60; got {pair!r}.")
        found[name.strip()] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    """The value that a text stands for; a bare word that begins with a digit, such as ``2s3z``, is text, and so are
    words with commas between them."""
    word = re.fullmatch(r"\d[\w.-]*|[\w.-]+(,[\w.-]+)+", text) is not None
    try:
        value = parse_value(text, MAKERS)
    except UserError:
        if word:
            return text
        raise
    return text if word and isinstance(value, complex) else value
