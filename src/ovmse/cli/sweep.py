"""`ovmse sweep`."""

import os
from pathlib import Path
from typing import Annotated

import tyro

from ovmse.core.errors import UserError, number_of, typed_command
from ovmse.system import cores
from ovmse.system.progress import Terminal, say
from ovmse.system.ray_client import LOCAL

File = tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="GRID")]]
"""A grid file."""
Words = tyro.conf.UseAppendAction[tuple[str, ...]]
"""An option that may come several times."""
NAMED = 8
"""Runs that are named in the command that compares them; of more the directory is told."""


def sweep(
    file: File = None,
    *,
    out: Path,
    grid: Words = (),
    settings: Annotated[Words, tyro.conf.arg(name="set")] = (),
    workers: int | None = None,
    retry_failed: bool = False,
    table: bool = False,
    against: str | None = None,
    finished: Path | None = None,
    cell: str | None = None,
    slurm: tuple[str, ...] | None = None,
    slurm_submit: bool = False,
    ray: bool = False,
    ray_address: str | None = None,
    trust_code: bool = False,
) -> None:
    """Run a grid of training runs, one on each core; the same command goes on with what is missing.

    Args:
        file: a TOML file with [settings] of all cells and [axes] to multiply (docs/sweeps.md).
        out: the directory of the sweep.
        grid: an axis, such as seed=0,1 or online_target.weight.end=0,0.3,0.6; in place of the file's of that name.
        settings: a setting of all cells, such as env=smax:3m; in place of the file's.
        workers: runs at the same time; by default one for each core that this process may use.
        retry_failed: go on with the cells that failed, too.
        table: write and print the tables of what is there, and run nothing.
        against: a value of an axis; a second table sets the axis's others against it, in pairs of all else equal.
        finished: the results.csv of the same sweep elsewhere; the cells that finished there are not run again.
        cell: a scheduler's task: run this one alone, by the name of its directory in cells/ or offline/.
        slurm: write job arrays for SLURM and run nothing; with options of sbatch, such as partition=cpu time=2:00:00.
        slurm_submit: with --slurm: submit the jobs.
        ray: run the cells by a Ray of this machine (ovmse[ray]), which ends with the sweep.
        ray_address: run them by the Ray at this address, or auto; its machines have one file system.
        trust_code: import and run the environments and methods of somebody's own that the grid names.
    """
    ways = {"--table": table, "--cell": cell, "--slurm": slurm is not None, "--ray": ray, "--ray-address": ray_address}
    if len(asked := [option for option, given in ways.items() if given]) > 1:
        raise UserError(f"{' and '.join(asked)}: give one of them.")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported: a cell computes on a core
    if cell is not None:
        cores.pin(cores.claimed())  # before JAX is imported, which counts them
    from ovmse.report.table import print_table
    from ovmse.sweep import paired, results
    from ovmse.sweep.given import grid_of
    from ovmse.sweep.page import write_page
    from ovmse.sweep.plan import CELLS
    from ovmse.sweep.run import collect, command, sweep as run
    from ovmse.sweep.single import run_single
    from ovmse.sweep.slurm import as_job_arrays

    console = Terminal()
    given = grid_of(file, settings, grid)
    if against is not None:
        paired.axis_of(given.cells(), against)
    if cell is not None:
        raise SystemExit(run_single(given, out, cell, retry_failed, trust_code, console))
    if slurm is not None or slurm_submit:
        words = as_job_arrays(given, out, slurm or (), slurm_submit, retry_failed, trust_code, console, finished)
        say(console, words)
        return
    where = ray_address or (LOCAL if ray else None)
    if table:
        found = collect(given, out, trust_code, console, finished)
    else:
        found = run(given, out, workers, retry_failed, trust_code, console, finished, where)
    cells, lines = [one.cell for one in found], [line for one in found for line in one.lines]
    tables = [results.table(cells, lines)]
    tables += [] if against is None else [paired.table(cells, lines, against)]
    for shown in tables:
        print_table(shown, console)
    for one in found:
        if one.state.reason:
            say(console, f"{one.state.name}: {one.cell}: {one.state.reason} ({one.job.last_log})")
    if (out / CELLS).is_dir() and os.access(out, os.W_OK):
        say(console, f"Written: {write_page(out, given, found, tables)}, {results.FILE}, {results.TYPED_FILE}")
    go_on = command(given, out, workers, trust_code, finished, where)
    names = [one.state.name for one in found]
    runs = [one.job.run for one in found if one.state == results.FINISHED and one.job.run.exists()]
    if len(runs) > 1:
        named = typed_command("compare", *runs) if len(runs) <= NAMED else f"{typed_command('compare', out)}/cells/*"
        say(console, f"Next: {named}")
    elif runs:
        say(console, f"Next: {typed_command('report', *runs)}")
    if "to do" in names or "stopped" in names:
        left = names.count("to do") + names.count("stopped")
        say(console, f"      {go_on} (to go on: {number_of(left, 'cell')})")
    if "failed" in names or "diverged" in names:
        left = names.count("failed") + names.count("diverged")
        say(console, f"      {go_on} --retry-failed (to try again: {number_of(left, 'cell')})")
    if not table and set(names) - {"finished"}:
        raise SystemExit(1)
