"""`ovmse compare`."""

from pathlib import Path

import tyro

from ovmse.core.errors import typed_command
from ovmse.runs.saved_config import need_runs
from ovmse.system.progress import Terminal, say


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    reference: float | None = None,
    labels: tuple[str, ...] | None = None,
) -> None:
    """Put several runs, of one environment or of several, in one table and two figures.

    Args:
        runs: the runs' directories, two or more.
        out: the directory to write into; by default comparison/ beside the first run.
        reference: the score that regret is measured against; by default a win rate of 1, or the best return seen.
        labels: what to call the runs, one each in their order; by default the method, and what differs in it.
    """
    from ovmse.report.compare import compare as run

    need_runs(runs)
    console = Terminal()
    where = run(list(runs), out, console, reference, labels)
    say(console, f"Written: {where}\nNext: {typed_command('report', *runs)}")
