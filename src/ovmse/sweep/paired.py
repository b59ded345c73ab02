"""One value of an axis against another, as paired differences on equal seeds and equal values of all other axes."""

from collections.abc import Sequence

from ovmse.core.errors import UserError, did_you_mean
from ovmse.render import format as fmt
from ovmse.report.table import Column, Table
from ovmse.stats.estimates import Estimate
from ovmse.stats.paired import PairedDifference, paired_difference
from ovmse.sweep.grid import SEED, Cell
from ovmse.sweep.results import FILE, MEASURES, PAIRS, SHOWN, Line, axes_of, heading

CAPTION = (
    "Mean differences over pairs of equal seeds and settings [95 % interval, t], and the share of pairs above zero. "
    f"{MEASURES}"
)


def axis_of(cells: Sequence[Cell], value: str) -> str:
    """The axis that has a value. Raises `UserError` where none has, or several have."""
    found = [axis for axis in axes_of(cells) if value in {cell.point[axis] for cell in cells}]
    if len(found) == 1:
        return found[0]
    known = sorted({str(cell.point[axis]) for cell in cells for axis in axes_of(cells)})
    says = f"several axes have the value: {', '.join(found)}" if found else f"no axis has it. Known: {', '.join(known)}"
    raise UserError(f"--against {value!r}: {says}.{did_you_mean(value, known)}")


def pairs(lines: Sequence[Line], axes: Sequence[str], axis: str, ours: str, theirs: str) -> list[tuple[Line, Line]]:
    """The lines with scores of one value of an axis, each beside that of the other with all else equal."""
    others = [name for name in (*axes, SEED) if name != axis]
    scored = [line for line in lines if line["status"] in ("finished", "diverged")]
    by_place = {(line[axis], *(line[name] for name in others)): line for line in scored}
    mine = [(line, by_place.get((theirs, *(line[name] for name in others)))) for line in scored if line[axis] == ours]
    return [(one, other) for one, other in mine if other is not None]


def difference(found: Sequence[tuple[Line, Line]], column: str) -> PairedDifference | None:
    """The paired difference of a score, over the pairs that have it; None without any, or where some are win rates and
    some returns, which have no mean."""
    if len({line["score"] for pair in found for line in pair}) > 1:
        return None
    there = [(ours[column], theirs[column]) for ours, theirs in found if None not in (ours[column], theirs[column])]
    return paired_difference(*zip(*there, strict=True)) if there else None


def table(cells: Sequence[Cell], lines: Sequence[Line], against: str) -> Table:
    """A row for each other value of the axis that has the value `against`, over all pairs that are there."""
    axis, axes = axis_of(cells, against), axes_of(cells)
    values = [value for value in dict.fromkeys(cell.point[axis] for cell in cells) if value != against]
    found = {value: pairs(lines, axes, axis, value, against) for value in values}
    columns = [Column(axis, "", values), Column(PAIRS, "", [str(len(some)) for some in found.values()])]
    for name in SHOWN:
        texts = [in_words(difference(some, name), some) for some in found.values()]
        columns.append(Column(heading(name), "", texts))
    return Table(FILE, f"Against {against!r}", CAPTION, columns)


def in_words(found: PairedDifference | None, some: Sequence[tuple[Line, Line]]) -> str:
    """A difference with its interval, and the share of pairs above zero."""
    if found is None:
        return "–"
    mean = Estimate(found.value, found.low, found.high, found.n)
    return f"{fmt.change(mean, name=some[0][0]['score'])}, {100 * found.above:.0f} % above"
