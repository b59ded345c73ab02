"""A sweep, top to bottom: read the grid, check every cell, run what is missing, and tell what came out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console

from ovmse.core.errors import Unwritable, UserError, check_positive, typed_command
from ovmse.runs import trusted_code
from ovmse.sweep import plan, results
from ovmse.sweep.given import Grid, grid_of
from ovmse.sweep.grid import Cell, naming
from ovmse.sweep.on_ray import connected
from ovmse.sweep.plan import Job
from ovmse.sweep.pool import MakePool, Pool
from ovmse.sweep.results import FINISHED, Line, State
from ovmse.sweep.show import seconds_of, show
from ovmse.system import files, lock
from ovmse.system.cores import usable_cores
from ovmse.system.progress import ProgressBar, track
from ovmse.system.ray_client import LOCAL
from ovmse.system.signals import Interrupted, Stop

GRID = "grid.toml"
"""The grid that a sweep's directory was last run with."""
POLL_SECONDS = 0.1
STOPPING = "stopping: the cells under way are saved; Ctrl-C again stops at once (nothing more is saved)"


@dataclass(frozen=True)
class Swept:
    """A cell of a sweep as it is now. lines: its lines in ``results.csv``."""

    cell: Cell
    job: Job
    state: State
    lines: list[Line]


def sweep(
    grid: Path | Grid,
    out: Path,
    workers: int | None = None,
    retry_failed: bool = False,
    trust_code: bool = False,
    console: Console | None = None,
    finished: Path | None = None,
    ray: str | None = None,
) -> list[Swept]:
    """Run the cells of a grid that are not finished yet, each in a process on a core of its own.

    The same call goes on with a sweep that was stopped or killed; one with more cells runs those that are new.

    Args:
        grid: a grid file (docs/sweeps.md), or what `grid_of` made of one.
        out: the directory of the sweep.
        workers: runs at the same time; by default one for each core that this process may use.
        retry_failed: go on with the cells that failed, too.
        trust_code: import and run the environments and methods of somebody's own that the grid names.
        console: where progress is shown; None: nowhere.
        finished: the ``results.csv`` of the same cells elsewhere; those that finished there are not run again.
        ray: the address of a Ray to run the cells by, or ``local``; None: they are processes of this one.

    Returns:
        What became of every cell, in the grid's order.

    Raises:
        UserError: for a grid or a cell that can't be run, before anything is written; where `out` holds something else,
            or another process works on it.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with the cells under way saved.
    """
    if workers is not None:
        check_positive("--workers", workers)
    grid = grid if isinstance(grid, Grid) else grid_of(grid)
    go_on = command(grid, out, workers, trust_code, finished, ray)
    found, jobs = prepared(grid, out, retry_failed, trust_code, console, finished)
    places = on_cores(workers) if ray is None else connected(ray, workers)
    with places as make, opened(out, grid, jobs), ProgressBar(console) as bar, Stop(lambda: bar.say(STOPPING)) as stop:
        pool = make(jobs, bar.say)
        try:
            found = run(found, pool, out, bar, stop)
        except KeyboardInterrupt as second:
            pool.kill()
            raise Interrupted(out, go_on, at_once=True) from second
        finally:
            pool.ask_to_stop()
    if stop.asked:
        raise Interrupted(out, go_on, stop.code)
    return found


def on_cores(workers: int | None) -> AbstractContextManager[MakePool]:
    """What makes a pool on the cores that this process may use, one run on each, or so many runs."""
    found = usable_cores()
    return nullcontext(lambda jobs, say: Pool(jobs, list(islice(cycle(found), workers or len(found))), say))


def prepared(
    grid: Grid,
    out: Path,
    retry_failed: bool = False,
    trust_code: bool = False,
    console: Console | None = None,
    finished: Path | None = None,
) -> tuple[list[Swept], list[Job]]:
    """The cells of a grid as `look` finds them, and what is to be run of them, checked as `ovmse train` would."""
    found = look(grid, out, trust_code, console, finished)
    wanted = ("to do", "failed", "diverged") if retry_failed else ("to do",)
    to_do = [one for one in found if one.state.name in wanted]
    with naming(grid.name):
        return found, plan.checked([one.cell for one in to_do], [one.job for one in to_do], console)


def collect(
    grid: Grid, out: Path, trust_code: bool = False, console: Console | None = None, finished: Path | None = None
) -> list[Swept]:
    """The cells of a grid as `look` finds them; ``results.csv`` and ``.parquet`` are written of them, unless a sweep is
    at work, which does that."""
    found = look(grid, out, trust_code, console, finished)
    if (out / plan.CELLS).is_dir():
        with suppress(Unwritable), lock.held(out):
            write(out, found)
    return found


def look(
    grid: Path | Grid,
    out: Path,
    trust_code: bool = False,
    console: Console | None = None,
    finished: Path | None = None,
) -> list[Swept]:
    """The cells of a grid as they are in a sweep's directory, or where they are not there as they ended elsewhere.

    Raises `UserError` for a grid, or a file of results, that can't be used.
    """
    grid = grid if isinstance(grid, Grid) else grid_of(grid)
    cells, elsewhere = grid.cells(), {} if finished is None else results.read_finished(finished)
    with naming(grid.name):
        results.check_axes(cells)
    for cell in cells:
        trusted_code.check(grid.name, cell.config, trust_code)
    found: list[Swept] = []
    there: dict[Path, Cell] = {}
    for cell in track(cells, "reading", len(cells), lambda cell: 1, console):
        with naming(f"{grid.name}: {cell}"):
            job = plan.with_offline_phase(plan.placed(cell, out), trust_code)
            if (twin := there.setdefault(job.run, cell)) is not cell:
                raise UserError(f"it is the same run as {twin}. Leave one of them out.")
        state = results.state_of(job, {})
        lines = results.lines_of(cell, job, state)
        if state != FINISHED and job.name in elsewhere:
            state, lines = FINISHED, [{**line, **results.places(cell)} for line in elsewhere[job.name]]
        found.append(Swept(cell, job, state, lines))
    return found


def run(found: list[Swept], pool: Pool, out: Path, bar: ProgressBar, stop: Stop) -> list[Swept]:
    """Run what waits in a pool, and keep the files of results up to date. Returns the cells as they are then."""
    jobs = [one.job for one in found]
    known = seconds_of([*jobs, *(job.after for job in jobs if job.after is not None)])
    done = sum(one.state == FINISHED for one in found)
    bar.begin("sweep", len(found), done)
    write(out, found)
    while pool.waiting or pool.running:
        if ended := pool.turn(stop.asked != 0):
            found = [renewed(one, {} if stop.asked else pool.stopped) for one in found]
            done, known = sum(one.state == FINISHED for one in found), known | seconds_of(ended)
            write(out, found)
            for job in ended:
                bar.say(said_of(job, {} if stop.asked else pool.stopped))
        if not stop.asked:
            show(bar, pool, done, known)
        time.sleep(POLL_SECONDS)
    return found


def renewed(one: Swept, stopped: dict[Path, str]) -> Swept:
    """A cell as it is now; what is finished stays so."""
    if one.state == FINISHED:
        return one
    state = results.state_of(one.job, stopped)
    return one if state == one.state else Swept(one.cell, one.job, state, results.lines_of(one.cell, one.job, state))


def write(out: Path, found: list[Swept]) -> None:
    """Write ``results.csv`` and ``.parquet`` of the cells that are not still to do."""
    results.write(out, [one.cell for one in found], [line for one in found for line in one.lines])


def said_of(job: Job, stopped: dict[Path, str]) -> str:
    """How a run's process ended, in a line."""
    state = results.state_of(job, stopped)
    told = "saved" if state == results.TO_DO else state.name
    return f"{job.run}: {told}" + (f": {state.reason} ({job.log})" if state.reason else "")


def command(
    grid: Grid,
    out: Path,
    workers: int | None = None,
    trust_code: bool = False,
    finished: Path | None = None,
    ray: str | None = None,
) -> str:
    """The command that goes on with a sweep."""
    how: list[object] = [] if workers is None else ["--workers", workers]
    how += [] if finished is None else ["--finished", finished]
    how += {None: [], LOCAL: ["--ray"]}.get(ray, ["--ray-address", ray])
    return typed_command("sweep", *grid.words, "--out", out, *how, *(["--trust-code"] if trust_code else []))


@contextmanager
def opened(out: Path, grid: Grid, jobs: Sequence[Job] = ()) -> Iterator[None]:
    """A sweep's directory, new or gone on with, for this process alone.

    jobs: what is to be run, also where it failed before.
    Raises `UserError` where it holds something else, or where another process works on it.
    """
    if out.exists() and not (out / plan.CELLS).is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is in use, and holds no sweep: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    with lock.held(out):
        files.check_tree(out)
        make_folders(out)
        files.write_text(out / GRID, grid.text)
        for job in (*jobs, *(job.after for job in jobs if job.after is not None)):
            job.failure.unlink(missing_ok=True)
        yield


def make_folders(out: Path) -> None:
    """Make the directories of a sweep, where they are missing."""
    for name in (plan.CELLS, plan.OFFLINE, plan.LOGS, plan.FAILED):  # the first one tells that it is a sweep's
        files.make_folder(out / name)
