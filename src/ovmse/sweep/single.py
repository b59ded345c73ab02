"""One run of a sweep by its name, in this process: what a scheduler's task does."""

from pathlib import Path

from rich.console import Console

from ovmse.core.errors import UserError, did_you_mean
from ovmse.runs import checkpoints, trusted_code
from ovmse.sweep import plan, process
from ovmse.sweep.given import Grid
from ovmse.sweep.plan import Job
from ovmse.sweep.run import make_folders
from ovmse.system.progress import say


def run_single(
    grid: Grid,
    out: Path,
    name: str,
    retry_failed: bool = False,
    trust_code: bool = False,
    console: Console | None = None,
) -> int:
    """Run a cell of a sweep, or an offline phase that cells share; what is finished is not run again.

    Tasks may work in one sweep's directory side by side; two that are given the same run wait for each other.

    Args:
        grid: the grid, which holds the cell.
        out: the directory of the sweep.
        name: the run's: the last part of its directory, in ``cells/`` or ``offline/``.
        retry_failed: run it also where it failed before.
        trust_code: import and run the environment and the method of somebody's own that the cell names.
        console: where it is said when nothing is to be run.

    Returns:
        The exit code: 0 when it has ended, 1 where it can't be run now, such as before its offline phase, 2 where it
        failed, 130 or 143 when stopped.

    Raises:
        UserError: for a name that the grid does not have.
    """
    if any(checkpoints.has_ended(out / folder / name) for folder in (plan.CELLS, plan.OFFLINE)):
        say(console, f"{name} is finished.")
        return 0
    job = named(grid, out, name, trust_code)
    if retry_failed:
        job.failure.unlink(missing_ok=True)
    if reason := plan.failure(job):
        say(console, f"{name} failed, and is run again with --retry-failed alone: {reason}")
        return process.FAILED
    if job.after is not None and not checkpoints.has_ended(job.after.run):
        say(console, f"{name}: the offline phase that it takes over has not ended: first run --cell {job.after.name}.")
        return 1
    make_folders(out)
    return process.attempt(job.config, job.failure)


def named(grid: Grid, out: Path, name: str, trust_code: bool) -> Job:
    """The run of a grid by its name. Raises `UserError` where it has none, or one that takes trust to run."""
    names: list[str] = []
    for cell in grid.cells():
        job = plan.placed(cell, out)
        names.append(job.name)
        if job.name != name and plan.OFFLINE not in name:  # a name that no offline phase has
            continue
        trusted_code.check(grid.name, cell.config, trust_code)
        job = plan.with_offline_phase(job, trust_code)
        for found in (job, job.after):
            if found is not None and found.name == name:
                return found
    raise UserError(f"{grid.name} has no run {name!r}.{did_you_mean(name, names)}")
