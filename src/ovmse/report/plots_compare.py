"""The figures of several runs. Importing this module imports matplotlib."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from ovmse.analysis.comparison import Comparison
from ovmse.render.draw import MUTED, THEME, draw_curve, progress_axis, score_axis, style_of
from ovmse.report.plots import BEFORE, SCORE_LABELS, X_LABELS, finish_x, mean_curve, panel_rows, traces_of
from ovmse.runs.metrics_file import PHASES, counted, series
from ovmse.stats.aggregate import performance_profile
from ovmse.stats.estimates import Estimate

ACROSS = 3  # tasks beside each other
THRESHOLDS = 201


def compare_figure(found: Comparison) -> Figure:
    """Scores over training and, beneath, the final scores with their intervals.

    One task: both phases, and the runs' final scores. Several: a panel with the last phase of each task, and the
    methods' final scores over all of them.
    """
    return _one_task(found) if len(found.distinct_tasks()) == 1 else _several_tasks(found)


def profiles_figure(found: Comparison) -> Figure:
    """Performance profiles over all tasks, and each method's probability of improvement over the first.

    Without a method that was run in every task, the figure says so.
    """
    totals = found.totals
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 3.9 + 0.12 * len(totals)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
        if not totals:
            _nothing(left)
            right.set_axis_off()
            return figure
        thresholds = _thresholds(found)
        for i, total in enumerate(totals):
            draw_curve(left, performance_profile(total.finals, thresholds), **style_of(i))
        left.set_title("Performance profile", loc="left")
        left.set_ylabel("share of runs with a higher final score")
        left.set_ylim(-0.03, 1.03)
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        left.set_xlim(thresholds[0], thresholds[-1])
        left.set_xlabel(f"threshold τ: {_final_label(found)}")
        if found.score == "win_rate":
            left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        _draw_improvement(right, found)
        _legend(figure, [t.method for t in totals])
    return figure


def _draw_improvement(ax: Axes, found: Comparison) -> None:
    totals = found.totals
    ax.axvline(0.5, color=MUTED, linestyle=BEFORE, linewidth=1.1, zorder=1)
    for i, total in enumerate(totals):
        if total.better is not None:
            _estimate(ax, total.better, i, style_of(i)["color"])
    ax.set_title("Probability of improvement", loc="left")
    ax.set_xlabel(f"chance of a final score above {_short(totals[0].method, 18)}")
    ax.set_xlim(-0.04, 1.04)
    _names_axis(ax, [t.method for t in totals[1:]], first=1, most=18)


def _thresholds(found: Comparison) -> np.ndarray:
    """From just below the lowest score to the highest; 0 to 1 for win rates and for scaled returns."""
    if found.score == "win_rate" or len(found.distinct_tasks()) > 1:
        return np.linspace(0.0, 1.0, THRESHOLDS)
    scores = np.concatenate([x for t in found.totals for x in t.finals])
    margin = 0.03 * (np.ptp(scores) or abs(scores[0]) or 1.0)
    return np.linspace(scores.min() - margin, scores.max() + margin, THRESHOLDS)


def _final_label(found: Comparison) -> str:
    scaled = found.score == "return" and len(found.distinct_tasks()) > 1
    return "final return, scaled to [0, 1] in each environment" if scaled else f"final {SCORE_LABELS[found.score]}"


def _one_task(found: Comparison) -> Figure:
    runs, score = found.runs, found.score
    phases = [p for p in PHASES if any(series(traces_of(r, p), score) for r in runs)]
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 4.2 + 0.3 * len(runs)), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[3.3, 0.9 + 0.3 * len(runs)])
        top, bottom = parts
        (row,) = panel_rows(top, phases, [1.0])
        for i, run in enumerate(runs):
            for phase, ax in row.items():
                if traces := series(counted(traces_of(run, phase)), score):
                    draw_curve(ax, mean_curve(traces), **style_of(i))
        score_axis(row[phases[0]], score)
        row[phases[0]].set_ylabel(SCORE_LABELS[score])
        finish_x([row])
        rows = [(t.iqm, np.concatenate(t.finals)) for t in found.totals]
        _draw_finals(bottom.subplots(), rows, found, found.names)
        _legend(top, found.names)
    return figure


def _several_tasks(found: Comparison) -> Figure:
    tasks, score = found.distinct_tasks(), found.score
    down, across = -(-len(tasks) // ACROSS), min(ACROSS, len(tasks))
    styles = {m: style_of(i) for i, m in enumerate(dict.fromkeys([*(t.method for t in found.totals), *found.methods]))}
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 1.3 + 2.4 * down + 0.3 * len(found.totals)), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[0.4 + 2.4 * down, 0.9 + 0.3 * len(found.totals)])
        top, bottom = parts
        panels = top.subplots(down, across, squeeze=False, sharey=score == "win_rate").ravel()
        for ax in panels[len(tasks) :]:
            ax.set_axis_off()
        for ax, task in zip(panels, tasks, strict=False):
            mine = found.of_task(task)
            phase = "online" if any(found.results[i].phase == "online" for i in mine) else "offline"
            for i in mine:
                if traces := series(counted(traces_of(found.runs[i], phase)), score):
                    draw_curve(ax, mean_curve(traces), **styles[found.methods[i]])
            score_axis(ax, score)
            ax.set_title(_short(task), loc="left")
            progress_axis(ax, X_LABELS[phase], ticks=4)
        for ax in panels[::across]:
            ax.set_ylabel(SCORE_LABELS[score])
        rows = [(t.iqm, np.concatenate(t.finals)) for t in found.totals]
        _draw_finals(bottom.subplots(), rows, found, [t.method for t in found.totals])
        _legend(top, list(styles))
    return figure


def _draw_finals(
    ax: Axes, rows: Sequence[tuple[Estimate, np.ndarray]], found: Comparison, names: Sequence[str]
) -> None:
    """One line per run or method: the final score of each seed, their interquartile mean and its interval."""
    if not rows:
        _nothing(ax)
        return
    for i, (estimate, scores) in enumerate(rows):
        colour = style_of(i)["color"]
        ax.plot(scores, [i] * len(scores), "o", color=colour, alpha=0.45, markersize=4, markeredgewidth=0, zorder=2)
        _estimate(ax, estimate, i, colour)
    _names_axis(ax, names)
    ax.set_xlabel(f"{_final_label(found)} (◆ interquartile mean, bar 95 % interval, ● seeds)")
    if found.score == "win_rate":
        ax.set_xlim(-0.02, 1.02)
        ax.set_xticks(np.linspace(0, 1, 6), [f"{p} %" for p in range(0, 101, 20)])


def _nothing(ax: Axes) -> None:
    said = "No method was run in every environment."
    ax.text(0.5, 0.5, said, color=MUTED, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()


def _estimate(ax: Axes, estimate: Estimate, y: int, colour: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=5, alpha=0.35, zorder=1)
    ax.plot(estimate.value, y, "D", color=colour, markersize=6, zorder=3)


def _names_axis(ax: Axes, names: Sequence[str], first: int = 0, most: int = 34) -> None:
    """Names down the y axis, beginning at position `first`."""
    ax.set_yticks(range(first, first + len(names)), [_short(name, most) for name in names])
    ax.set_ylim(first + len(names) - 0.4, first - 0.6)
    ax.grid(visible=False, axis="y")


def _legend(figure: Any, names: Sequence[str]) -> None:
    """Above everything: the i-th name in the i-th style."""
    handles = [Line2D([], [], label=name, **style_of(i)) for i, name in enumerate(names)]
    columns = max(1, min(4, 110 // (max(map(len, names)) + 8)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def _short(label: str, most: int = 34) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
