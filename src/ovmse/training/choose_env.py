"""Which environment a run is in where its user names none: the dataset's own, if that is one that can be made."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ovmse import envs
from ovmse.config import NO_ENV, Config
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.folder import find
from ovmse.data.zarr_files import read_metadata
from ovmse.runs import trusted_code

DEFAULT = "smax:3m"
"""The environment of a run without a dataset."""
AnyConfig = TypeVar("AnyConfig", bound=Config)


def with_env(config: AnyConfig) -> AnyConfig:
    """The configuration with its environment named: as it is where it names one.

    A dataset names no code of its user's own to be run: such an environment is given by `--env`, or nothing is played.
    """
    if config.env is not None:
        return config
    if config.data is None:
        return replace(config, env=DEFAULT)
    spec = read_metadata(find(config.data)).env
    if (settings := _settings(spec)) is None:
        return replace(config, env=NO_ENV)
    return replace(config, env=spec.name, env_settings=config.env_settings or settings)


def _settings(spec: EnvSpec) -> tuple[str, ...] | None:
    """The settings, as on the command line, that make a dataset's environment; None where it can't be made."""
    if trusted_code.own_module(spec.name) is not None:
        return None
    try:
        usual: dict[str, Any] = envs.make(spec.name).spec.settings
    except UserError:
        return None
    return tuple(f"{name}={value}" for name, value in spec.settings.items() if usual.get(name) != value)


def place_of(config: Config) -> str:
    """What a run's directory begins with: its environment, or where nothing is played its dataset's name."""
    return Path(config.data).name if config.env == NO_ENV and config.data is not None else str(config.env)
