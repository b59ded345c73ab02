"""Whether a run goes on where it stopped or ended, and by which settings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovmse.config import Config
from ovmse.core.errors import UserError, typed_command
from ovmse.core.settings import differences
from ovmse.learning.phases import Phase
from ovmse.runs import checkpoints
from ovmse.runs.checkpoints import Saved
from ovmse.runs.saved_config import read_config
from ovmse.system import files


def schedules_as_begun(config: Config, out: Path) -> Config:
    """The configuration of a run that goes on in `out`, whose schedules run over the budget that it began with.

    So a run that is trained for longer stays at the ends of its schedules, and is the run that it would have been with
    the longer budget and these `schedule_env_steps` from its beginning.
    """
    there = read_config(out, trusted=True) if checkpoints.is_run(out) else config
    if config.schedule_env_steps is not None or config.online_env_steps <= there.online_env_steps:
        return config
    return replace(config, schedule_env_steps=there.scheduled_env_steps)


def goes_on(described: dict[str, Any], out: Path, resume: bool) -> bool:
    """Whether a run goes on in `out`, asked to or because the same run began there, rather than begins.

    Raises `UserError` where it can do neither.
    """
    ended = checkpoints.has_ended(out)
    if ended and described.get("round") is not None:
        raise UserError(
            f"{out} holds a batch round that has ended. The next one: "
            f"{typed_command('improve', out, '--data', 'NEW')}, with the logs that came back since."
        )
    for_longer = f"{typed_command('train', '--resume', out)} --online-env-steps N (more than before)"
    if ended and not (resume and checkpoints.is_run(out)):
        raise UserError(
            f"{out} is in use: it holds a run that has ended ({typed_command('report', out)}). Choose another --out, "
            f"or train that run for longer: {for_longer}"
        )
    if not checkpoints.is_run(out):
        if resume:
            raise UserError(f"{out} holds no interrupted run: none began there.")
        return False
    there = files.read_json(out / "config.json") | {"out": str(out)}
    if not resume and (differ := differences(there, described | {"out": str(out)})):
        raise UserError(
            f"{out} is in use: it holds an unfinished run with other settings: {'; '.join(differ)}. Choose another "
            f"--out, or go on with that run: {typed_command('train', '--resume', out)}"
        )
    try:
        further = checkpoints.goes_further(there, described)
    except UserError as error:
        raise UserError(f"{out} goes on by its own settings, but {error}. Leave that out.") from error
    if ended and not further:
        raise UserError(f"{out} holds a run that has ended. To train it for longer: {for_longer}")
    checkpoints.check_there(out)
    return True


def check_phase(saved: Saved, described: dict[str, Any]) -> None:
    """Raise `UserError` where a phase is to be longer that the checkpoint has behind it."""
    before, now = saved.about["run"]["offline_updates"], described["offline_updates"]
    if saved.about["phase"] != Phase.OFFLINE and before != now:
        raise UserError(f"{saved.path}: its offline phase is over, so that --offline-updates stay {before}.")


def note_settings(out: Path, described: dict[str, Any], say: Callable[[str], None]) -> None:
    """Write down the settings that a run goes on by, which make a run that had ended an unfinished one."""
    there = files.read_json(out / "config.json")
    if there["online_env_steps"] < described["online_env_steps"]:
        say(
            f"trained for longer, {described['online_env_steps']} online environment steps after "
            f"{there['online_env_steps']}; schedules, such as those of ε and λ, run over the first "
            f"{described['schedule_env_steps']} (--schedule-env-steps)"
        )
    if there != described:
        (out / "summary.json").unlink(missing_ok=True)  # first: without the settings it would merely end once more
        files.sync(out)
        files.write_json(out / "config.json", described)
