"""`ovmse select` on the command line."""

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovmse.ope.select import select as run
from ovmse.ope.settings import Selecting
from ovmse.ope.write import HEADER, TRUE_HEADER, cells, next_command, true_cells
from ovmse.system.progress import say
from ovmse.training.display import Display


def select(selecting: tyro.conf.OmitArgPrefixes[Selecting]) -> None:
    """Rank the teams of several runs by a log alone, and keep the best for the online phase.

    Args:
        selecting: the selection.
    """
    console = Console()
    found = run(selecting, Display(console))
    table = Table(title=f"{len(found.rows)} teams by {selecting.score}", box=box.SIMPLE, pad_edge=False, padding=0)
    for name in HEADER:
        table.add_column(name, no_wrap=True, overflow="fold")
    for row in found.rows:
        table.add_row(*map(escape, cells(row)))
    console.print(table)
    if not all(row.covered for row in found.rows):
        console.print("* the log hardly follows it: extrapolated, and ranked behind the others", highlight=False)
    if not found.rows[0].covered:
        console.print("None of the teams is covered by the log: their estimates are extrapolated.", highlight=False)
    if found.truth:
        true = Table(*TRUE_HEADER, title="against the runs' own evaluations (no part of the choice)", box=box.SIMPLE)
        for one in found.truth:
            true.add_row(*true_cells(one))
        console.print(true)
    say(console, f"Written: {found.out}/selection.md, selection.json, chosen")
    say(console, f"Next: {next_command(selecting, found)}")
