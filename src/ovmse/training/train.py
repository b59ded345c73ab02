"""One run, top to bottom: set up, pretrain, hand over, fine-tune, finish."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovmse.config import Config
from ovmse.core.errors import typed_command
from ovmse.core.networks import Team
from ovmse.learning.parallel import SeedBatches, over_seeds
from ovmse.learning.phases import Phase, handover
from ovmse.learning.play import closing
from ovmse.runs import checkpoints, directory, trusted_code
from ovmse.system import files, lock, pytree_files
from ovmse.system.signals import Interrupted, Stop
from ovmse.training import metrics, online_log, rollback, rounds
from ovmse.training.ahead import compile_ahead
from ovmse.training.choose_env import place_of, with_env
from ovmse.training.continuation import schedules_as_begun
from ovmse.training.display import Display, default_display
from ovmse.training.listeners import OnRow, listening
from ovmse.training.log_phases import offline_phase
from ovmse.training.loop import run_phase
from ovmse.training.online_phase import online_phase
from ovmse.training.pretrained import load_pretrained
from ovmse.training.resume import save, state_checksum
from ovmse.training.run import Run, play, teams
from ovmse.training.setup import Task, setup
from ovmse.training.start import start_run


@dataclass(frozen=True)
class Result:
    """What a run leaves.

    out: its directory. rows: the metrics, one per evaluation and seed (docs/metrics.md). handover: the check at the
    switch, where there was one. teams: the networks at the end, leading axis seed.
    """

    out: Path
    rows: list[dict[str, Any]]
    handover: dict[str, Any] | None
    teams: Team


def train(
    config: Config,
    display: Display | None = None,
    resume: bool = False,
    allow_inexact_resume: bool = False,
    on_row: OnRow | None = None,
) -> Result:
    """Run a configuration to its end and write everything into ``config.out``.

    A run that was stopped, or whose process was killed, goes on from its newest checkpoint: with `resume`, or where
    the same configuration is run again. With `resume` and a larger budget it is trained for longer, also where it had
    ended; its schedules then stay where they ended, unless `schedule_env_steps` is given.

    Args:
        config: what to run.
        display: where progress is shown; None: in a notebook under its cell, elsewhere nowhere.
        resume: go on with the run that is in ``config.out``.
        allow_inexact_resume: go on also on another machine or with other versions, where it can't be bit for bit.
        on_row: called with each row of metrics once it is written (docs/metrics.md), such as ``print``. A run that goes
            on calls it with its new rows alone.

    Returns:
        The rows of metrics and the last teams, which are in the run's directory, too.

    Raises:
        UserError: on bad input, before anything is written; where learning came to a halt; where `on_row` raised, with
            the run saved; where a file can't be written.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with the run saved.
    """
    config = with_env(config)
    out = config.out or directory.next_free(f"{place_of(config)}-{config.method}")
    config = schedules_as_begun(replace(config, out=out), out) if resume else replace(config, out=out)
    task, display = setup(config), display or default_display()
    if checkpoints.is_run(out):
        files.check_tree(out)
    else:
        directory.create(out)
    with directory.writable(out), lock.held(out, display.say):
        try:
            return finish(*run_phases(task, display, resume, allow_inexact_resume, on_row))
        except KeyboardInterrupt as stop:  # a second Ctrl-C
            raise Interrupted(out, trusted_code.resume_command(config, out), at_once=True) from stop


def run_phases(
    task: Task, display: Display, resume: bool = False, allow_inexact_resume: bool = False, on_row: OnRow | None = None
) -> tuple[Run, SeedBatches]:
    """All phases of a run in `task.config.out`, up to its last states; a resumed run goes on in the middle."""
    with Stop(display.stopping) as stop:
        run, states = start_run(task, display, stop, resume, allow_inexact_resume)
        task.dataset = None  # from here on it is in `run.data`
        with display, closing(run.collect), online_log.kept_on_failure(run.online_logs), listening(run, on_row):
            if task.config.round is not None:
                return run, rounds.improve(run, states)
            online = online_phase(run) if task.method.online_target is not None else None
            if online is not None:
                compile_ahead(run, states, online)
            if task.method.offline_loss is not None and states[0].phase is Phase.OFFLINE:
                states = load_pretrained(run, states) if task.config.pretrained else pretrain(run, states)
            if online is not None:
                if states[0].phase is Phase.OFFLINE:
                    states = hand_over(run, states)
                states = run_phase(run, states, online)
    return run, states


def pretrain(run: Run, states: SeedBatches) -> SeedBatches:
    """The offline phase: gradient updates on the dataset, evaluated every so often."""
    states = run_phase(run, states, offline_phase(run))
    pytree_files.save(run.out / "offline.safetensors", teams(run, states))
    return states


def hand_over(run: Run, states: SeedBatches) -> SeedBatches:
    """The switch: the same greedy episodes just before and just after must agree exactly."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    pretrained = run.collect is not None and method.offline_loss is not None and not method.reinitialise_online
    before = play(run, states) if pretrained else None
    switch = over_seeds(lambda state, data: handover(config, spec, method, state, data), config.seeds)
    states = switch(states, run.data)
    if before is not None:
        repeatable = getattr(run.task.env, "repeatable", True)
        found = metrics.handover_report(before, play(run, states), config, spec.has_win, repeatable)
        files.write_json(run.out / "handover.json", found)
        run.display.handover(found)
    save(run, states, handover=True)
    return states


def finish(run: Run, states: SeedBatches) -> Result:
    """Write the teams, the online logs and, last of all, the summary; the checkpoints have had their time then."""
    with run.stop:  # too late to stop: it ends
        last_checkpoint = save(run, states)
        last = teams(run, states)
        pytree_files.save(run.out / "teams.safetensors", last)
        kept = online_log.write_all(run.online_logs)
        summary = run.clock.summary() | {f"predicted_{name}_bytes": x for name, x in run.task.needed_bytes.items()}
        summary["state_sha256"] = state_checksum(run, states)
        if run.ahead is not None:
            summary["worker_restarts"] = run.ahead.restarts
        if run.task.config.guard_margin is not None:
            summary["guard"] = rollback.verdicts(run.task.config, run.rows)
        summary["checkpoint"] = checkpoints.to_keep(last_checkpoint, run.task.config.keep_checkpoint)
        files.write_json(run.out / "summary.json", summary)
        checkpoints.tidy(run.out)
    found = files.read_json(run.out / "handover.json")
    run.display.finish(run.out, run.rows, summary)
    if kept:
        run.display.say(f"      {typed_command('inspect', kept[0])} (what was played online, to learn from next time)")
    return Result(run.out, run.rows, found, last)
