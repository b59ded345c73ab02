"""The configuration that a run was started with, read back from its directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.settings import describe
from ovmse.core.types import EnvSpec
from ovmse.runs import trusted_code
from ovmse.system.files import as_type, check_tree, read_json
from ovmse.system.spec_json import as_spec

NEWER = {
    "keep_experience", "guard_margin", "guard_patience", "loss_limit", "checkpoint_minutes", "checkpoints_kept",
    "env_seconds", "env_restarts", "schedule_env_steps", "keep_checkpoint", "pretrained_seed", "log", "held_out",
    "fqe_updates", "round", "env_python", "workers", "rounds_ahead", "ray_address",
}  # fmt: skip
"""Settings that the `config.json` of an older run lacks."""


def filled(described: Mapping[str, Any]) -> dict[str, Any]:
    """A described configuration with this version's defaults for the settings that an older run lacks."""
    usual = describe(Config())
    told = {**described, **{name: usual[name] for name in usual if name in NEWER and name not in described}}
    if isinstance(learner := told.get("learner"), Mapping):
        told["learner"] = usual["learner"] | learner
    return told


def need_runs(runs: tuple[Path, ...]) -> None:
    """Raise `UserError` unless there is a run and each is a directory."""
    if not runs:
        raise UserError("name at least one run's directory, such as runs/smax-3m-ovmse.")
    for run in runs:
        if not run.is_dir():
            raise UserError(f"{run} is not there; a run's directory is what `ovmse train` writes.")


class Networks(TypedDict, total=False):
    """What `config.json` says of a method's networks."""

    parts: dict[str, Any]


class Described(TypedDict, total=False):
    """What is read of `config.json` beside the configuration: which environment it was, and which networks."""

    env_spec: dict[str, Any]
    method_value: Networks
    learner: dict[str, Any]


def read_described(run: Path) -> dict[str, Any] | None:
    """All that a run's `config.json` says; None where there is none. Raises `UserError` where it is damaged."""
    found: dict[str, Any] | None = read_json(run / "config.json", dict[str, Any] | None)
    as_type(found or {}, Described, run / "config.json")
    return found


def read_spec(run: Path) -> EnvSpec | None:
    """The environment that a run was in; None where it doesn't say. Raises `UserError` where that is damaged."""
    found = (read_described(run) or {}).get("env_spec")
    return None if found is None else as_spec(found, f"{run / 'config.json'}: env_spec")


def read_config(run: Path, trusted: bool = False) -> Config:
    """The configuration that a run was started with, `out` being where it lies now.

    Raises `UserError` if there is none, if it is damaged, or if it names code of somebody's own and is not `trusted`.
    """
    need_runs((run,))
    check_tree(run)
    path = run / "config.json"
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is missing: {run} is not a run's directory.")
    if missing := [name for name in Config.__dataclass_fields__ if name not in found and name not in NEWER]:
        raise UserError(f"{path} is damaged: it lacks {', '.join(missing)}.")
    config = as_type({**found, "out": str(run)}, Config, f"{path} is damaged")
    trusted_code.check(path, config, trusted)
    return config
