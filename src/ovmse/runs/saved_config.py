"""The configuration that a run was started with, read back from its directory."""

from pathlib import Path

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.runs import trusted_code
from ovmse.system.files import as_type, check_tree, read_json

NEWER = {
    "keep_experience", "guard_margin", "guard_patience", "loss_limit", "checkpoint_minutes", "checkpoints_kept",
    "env_seconds", "env_restarts", "schedule_env_steps", "keep_checkpoint",
}  # fmt: skip
"""Settings that the `config.json` of an older run lacks."""


def need_runs(runs: tuple[Path, ...]) -> None:
    """Raise `UserError` unless there is a run and each is a directory."""
    if not runs:
        raise UserError("name at least one run's directory, such as runs/smax-3m-ovmse.")
    for run in runs:
        if not run.is_dir():
            raise UserError(f"{run} is not there; a run's directory is what `ovmse train` writes.")


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
