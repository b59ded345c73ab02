"""The page of a sweep, ``report.html`` in its directory: figures, tables, and what did not finish."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ovmse.core.errors import number_of
from ovmse.render.draw import picture
from ovmse.render.page import render
from ovmse.report.table import Table
from ovmse.sweep.figures import figures
from ovmse.sweep.given import Grid
from ovmse.sweep.results import FILE, TYPED_FILE
from ovmse.sweep.run import Swept
from ovmse.system.files import write_bytes, write_text

PAGE = "report.html"
CAPTION = "Means over seeds with their 95 % intervals (bootstrap; none with one seed)."


def write_page(out: Path, grid: Grid, found: Sequence[Swept], tables: Sequence[Table]) -> Path:
    """Write the page of a sweep into its directory, figures into ``figures/`` beside it; return the page's path.

    found: its cells as they are now; tables: those that it shows.
    """
    drawn = figures([one.cell for one in found], [line for one in found for line in one.lines])
    shown = [
        {
            "title": f"Over {axis}" if axis else "Side by side",
            "picture": picture(figure, out, f"sweep-{_slug(axis)}" if axis else "sweep", write_bytes),
            "caption": CAPTION,
        }
        for axis, figure in drawn.items()
    ]
    states = Counter(one.state.name for one in found)
    subtitle = f"{number_of(len(found), 'cell')}: {', '.join(f'{count} {name}' for name, count in states.items())}"
    page = render(
        "sweep.html",
        title=f"Sweep {out.absolute().name}",
        subtitle=subtitle,
        figures=shown,
        tables=tables,
        reasons=_reasons(found),
        cells=len(found),
        grid=grid.text,
        files=(FILE, TYPED_FILE),
    )
    write_text(out / PAGE, page)
    return out / PAGE


def _reasons(found: Sequence[Swept]) -> dict[str, list[str]]:
    """A row for each cell that did not finish for a reason; empty where all did."""
    bad = [one for one in found if one.state.reason]
    columns = {
        "cell": [str(one.cell) for one in bad],
        "became": [one.state.name for one in bad],
        "reason": [one.state.reason for one in bad],
        "log": [str(one.job.last_log) for one in bad],
    }
    return columns if bad else {}


def _slug(axis: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", axis.lower()).strip("-")[:40]
