"""`ovmse select` on the command line."""

import tyro
from rich import box
from rich.markup import escape
from rich.table import Table

from ovmse.core.errors import number_of
from ovmse.ope.results import unsettled
from ovmse.ope.select import select as run
from ovmse.ope.settings import Selecting
from ovmse.ope.write import COLUMNS, TRUE_COLUMNS, cells, next_command
from ovmse.system.progress import Terminal, say
from ovmse.training.display import Display


def select(selecting: tyro.conf.OmitArgPrefixes[Selecting]) -> None:
    """Rank the teams of several runs by a log alone, and keep the best for the online phase.

    Args:
        selecting: the selection.
    """
    console = Terminal()
    found = run(selecting, Display(console))
    title = f"{number_of(len(found.rows), 'team')} by {selecting.score}"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=0)
    for name in COLUMNS:
        table.add_column(name, no_wrap=True, overflow="fold")
    for row in found.rows:
        table.add_row(*map(escape, cells(COLUMNS, row)))
    console.print(table)
    if not all(row.covered for row in found.rows):
        say(console, "* the log hardly follows it: extrapolated, and ranked behind the others")
    if not found.rows[0].covered:
        say(console, "None of the teams is covered by the log: their estimates are extrapolated.")
    if said := unsettled(found):
        say(console, said)
    if found.truth:
        true = Table(*TRUE_COLUMNS, title="against the runs' own evaluations (no part of the choice)", box=box.SIMPLE)
        for one in found.truth:
            true.add_row(*cells(TRUE_COLUMNS, one))
        console.print(true)
    say(console, f"Written: {found.out}/selection.md, selection.json, chosen\nNext: {next_command(selecting, found)}")
