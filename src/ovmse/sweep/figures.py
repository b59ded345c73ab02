"""The figures of a sweep: scores over the swept values, or beside each other. Importing this imports matplotlib."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ovmse.render import draw
from ovmse.report.plots import SCORE_LABELS
from ovmse.stats.estimates import Curve, Estimate
from ovmse.sweep.grid import Cell
from ovmse.sweep.results import Line, axes_of, grouped, heading, kind_of, mean_of, score_of

DRAWN = ("mean_online", "last_fifth")
"""The scores that the figures show, side by side."""
MOST_LINES, MOST_ROWS, MOST_TICKS = 24, 60, 8
"""What a figure has room for: as many lines as there are styles."""
FAR_APART = 50.0
"""How many times the largest value of an axis is the smallest one, from where on it is drawn on a logarithmic scale."""
Panel = Callable[[Axes, str, str], None]
"""Draws a score, by its column and what it is, into a panel."""


class Point(NamedTuple):
    """The means of a combination of the axes other than the seed. place: its value on each axis; score: what it is."""

    place: dict[str, str]
    score: str
    means: dict[str, Estimate | None]


def points(cells: Sequence[Cell], lines: Sequence[Line]) -> list[Point]:
    """The combinations that have scores, in the grid's order."""
    axes = axes_of(cells)
    found = []
    for key, some in grouped(cells, lines).items():
        if (score := score_of(some)) is not None:
            found.append(Point(dict(zip(axes, key, strict=True)), score, {name: mean_of(some, name) for name in DRAWN}))
    return found


def figures(cells: Sequence[Cell], lines: Sequence[Line]) -> dict[str, Figure]:
    """A figure for each axis of numbers, by the axis; without one, or where these would hold too many lines, one of all
    combinations, by no name. No figure where nothing has a score, or even that one would hold too much."""
    found = points(cells, lines)
    if not found:
        return {}
    values = {axis: {cell.point[axis] for cell in cells} for axis in axes_of(cells)}
    swept = [axis for axis, some in values.items() if len(some) > 1 and kind_of(list(some)) is not str]
    fit = [axis for axis in swept if len({_others(one, axis) for one in found}) <= MOST_LINES]
    if not fit and len(found) <= MOST_ROWS:
        return {"": beside(found)}
    return {axis: over_value(found, axis) for axis in fit}


def over_value(found: Sequence[Point], axis: str) -> Figure:
    """Means with their intervals over the values of an axis of numbers, a line for each combination of the others."""
    by_line: dict[str, list[Point]] = {}
    for one in sorted(found, key=lambda one: float(one.place[axis])):
        by_line.setdefault(_others(one, axis), []).append(one)
    names = list(dict.fromkeys(_others(one, axis) for one in found))

    def panel(ax: Axes, name: str, score: str) -> None:
        for i, line in enumerate(names):
            if mine := [one for one in by_line[line] if one.score == score and one.means[name] is not None]:
                draw.draw_curve(ax, _curve(mine, axis, name), **draw.style_of(i))
        _values_axis(ax, axis, [float(one.place[axis]) for one in found])
        draw.score_axis(ax, score)
        if name == DRAWN[0]:
            ax.set_ylabel(SCORE_LABELS[score])

    return _panels(found, panel, 3.2, names if len(names) > 1 else ())


def beside(found: Sequence[Point]) -> Figure:
    """Means with their intervals, a row for each combination of the axes."""

    def panel(ax: Axes, name: str, score: str) -> None:
        mine = [one for one in found if one.score == score]
        for i, one in enumerate(mine):
            if (mean := one.means[name]) is not None:
                draw.draw_estimate(ax, mean, i, draw.PALETTE[0])
        draw.names_axis(ax, [_named(one.place) for one in mine] if name == DRAWN[0] else [""] * len(mine))
        ax.set_xlabel(SCORE_LABELS[score])
        if score == "win_rate":
            draw.percent_axis(ax.xaxis)

    return _panels(found, panel, 0.9 + 0.32 * len(found))


def _panels(found: Sequence[Point], panel: Panel, height: float, names: Sequence[str] = ()) -> Figure:
    """A row of panels for each kind of score: win rates and returns have no common axis. names: of what is drawn."""
    scores = list(dict.fromkeys(one.score for one in found))
    with matplotlib.rc_context(draw.THEME):
        figure = Figure(figsize=(9, 0.4 + height * len(scores)), layout="constrained")
        for row, score in zip(figure.subplots(len(scores), len(DRAWN), squeeze=False), scores, strict=True):
            for ax, name in zip(row, DRAWN, strict=True):
                panel(ax, name, score)
                ax.set_title(heading(name).capitalize(), loc="left")
        if names:
            draw.legend_above(figure, names)
    return figure


def _curve(mine: Sequence[Point], axis: str, name: str) -> Curve:
    """One line; no interval where none of its means has one."""
    means = [mean for one in mine if (mean := one.means[name]) is not None]
    low, high = (np.array([getattr(mean, end) for mean in means], float) for end in ("low", "high"))
    band = (low, high) if np.isfinite(low).any() else (None, None)
    return Curve(np.array([float(one.place[axis]) for one in mine]), np.array([mean.value for mean in means]), *band)


def _values_axis(ax: Axes, axis: str, values: Sequence[float]) -> None:
    """An x axis with a tick at each value, as far as they have room."""
    distinct = sorted(set(values))
    if distinct[0] > 0 and distinct[-1] >= FAR_APART * distinct[0]:
        ax.set_xscale("log")
        ax.minorticks_off()
    if len(distinct) <= MOST_TICKS:
        ax.set_xticks(distinct, [draw.compact(value) for value in distinct])
    ax.set_xlabel(axis)


def _others(one: Point, axis: str) -> str:
    """The values on the other axes, in words."""
    return _named({name: value for name, value in one.place.items() if name != axis})


def _named(place: dict[str, str]) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in place.items()) or "all"
