"""`ovmse sweep`."""

import os
from pathlib import Path
from typing import Annotated

import tyro

from ovmse.core.errors import number_of, typed_command
from ovmse.system.progress import Terminal, say

Grid = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="GRID")]]
"""A grid file."""
NAMED = 8
"""Runs that are named in the command that compares them; of more the directory is told."""


def sweep(
    grid: Grid,
    out: Path,
    workers: int | None = None,
    retry_failed: bool = False,
    table: bool = False,
    against: str | None = None,
    finished: Path | None = None,
    trust_code: bool = False,
) -> None:
    """Run a grid of training runs, one on each core; the same command goes on with what is missing.

    Args:
        grid: a TOML file with [settings] of all cells and [axes] to multiply (docs/sweeps.md).
        out: the directory of the sweep.
        workers: runs at the same time; by default one for each core that this process may use.
        retry_failed: go on with the cells that failed, too.
        table: print the table of what is there, and run nothing.
        against: a value of an axis; a second table sets the axis's others against it, in pairs of all else equal.
        finished: the results.csv of the same sweep elsewhere; the cells that finished there are not run again.
        trust_code: import and run the environments and methods of somebody's own that the grid names.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported: a cell computes on a core
    from ovmse.report.table import print_table
    from ovmse.sweep import paired, results
    from ovmse.sweep.grid import read_cells
    from ovmse.sweep.run import command, look, sweep as run

    console = Terminal()
    if against is not None:
        paired.axis_of(read_cells(grid), against)
    if table:
        found = look(grid, out, trust_code, console, finished)
    else:
        found = run(grid, out, workers, retry_failed, trust_code, console, finished)
    cells, lines = [one.cell for one in found], [line for one in found for line in one.lines]
    print_table(results.table(cells, lines), console)
    if against is not None:
        print_table(paired.table(cells, lines, against), console)
    for one in found:
        if one.state.reason:
            say(console, f"{one.state.name}: {one.cell}: {one.state.reason} ({one.job.last_log})")
    if not table:
        say(console, f"Written: {out / results.FILE}")
    go_on = command(grid, out, workers, trust_code, finished)
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
