"""`ovmse report`."""

from pathlib import Path

import tyro

from ovmse.runs.saved_config import need_runs
from ovmse.system.progress import Terminal, say


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    reference: float | None = None,
    labels: tuple[str, ...] | None = None,
) -> None:
    """Write one page on one or several runs; it opens without a network.

    Args:
        runs: the runs' directories.
        out: where to write the page; by default report.html in the run's directory.
        reference: the score that regret is measured against; by default a win rate of 1, or the best return seen.
        labels: what to call the runs, one each in their order; by default the method, and what differs in it.
    """
    from ovmse.report.page import write_report  # here, since --help does without what draws

    need_runs(runs)
    page = write_report(list(runs), out, reference, labels)
    say(Terminal(), f"Written: {page}\nNext: open it in a browser")
