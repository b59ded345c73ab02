"""The figures of several runs. Importing this module imports matplotlib."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ovmse.analysis.comparison import Comparison
from ovmse.render import draw
from ovmse.report.plots import BEFORE, SCORE_LABELS, X_LABELS, draw_mean, finish_x, panel_rows
from ovmse.runs.metrics_file import PROGRESS, series
from ovmse.stats.aggregate import performance_profile

ACROSS = 3  # tasks beside each other
THRESHOLDS = 201
Styles = dict[str, dict[str, Any]]  # method to how it is drawn


def compare_figure(found: Comparison) -> Figure:
    """Scores over training and, beneath, the final scores with their intervals.

    One task: both phases, and the runs' final scores. Several: a panel with the last phase of each task, and the
    methods' final scores over all of them.
    """
    tasks = len(found.distinct_tasks())
    heights = (3.3 if tasks == 1 else 0.4 + 2.4 * -(-tasks // ACROSS), 0.9 + 0.3 * _lines(found, draw.NAMED))
    methods = dict.fromkeys([*(t.method for t in found.totals), *found.methods])
    styles = {method: draw.style_of(i) for i, method in enumerate(methods)}
    with matplotlib.rc_context(draw.THEME):
        figure = Figure(figsize=(9, sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        top, bottom = parts
        (_draw_phases if tasks == 1 else _draw_tasks)(top, found, styles)
        _draw_finals(bottom.subplots(), found)
        draw.legend_above(top, list(styles))
    return figure


def profiles_figure(found: Comparison) -> Figure:
    """Performance profiles over all tasks, and each method's probability of improvement over the first.

    Without a method that was run in every task, the figure says so.
    """
    totals = found.totals
    with matplotlib.rc_context(draw.THEME):
        figure = Figure(
            figsize=(9, 3.6 + 0.12 * len(totals) + 0.15 * _lines(found, draw.NAMED // 2)), layout="constrained"
        )
        left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
        if not totals:
            _nothing(left)
            right.set_axis_off()
            return figure
        thresholds = _thresholds(found)
        for i, total in enumerate(totals):
            draw.draw_curve(left, performance_profile(total.finals, thresholds), **draw.style_of(i))
        left.set_title("Performance profile", loc="left")
        left.set(ylabel="share of runs with a higher final score", ylim=(-0.03, 1.03))
        left.set(xlabel=f"threshold τ: {_final_label(found)}", xlim=(thresholds[0], thresholds[-1]))
        draw.percent_axis(left.yaxis)
        if found.score == "win_rate":
            draw.percent_axis(left.xaxis)
        _draw_improvement(right, found)
        draw.legend_above(figure, [t.method for t in totals])
    return figure


def _draw_improvement(ax: Axes, found: Comparison) -> None:
    totals = found.totals
    ax.axvline(0.5, **BEFORE)
    for i, total in enumerate(totals):
        if total.better is not None:
            draw.draw_estimate(ax, total.better, i, draw.style_of(i)["color"])
    ax.set_title("Probability of improvement", loc="left")
    ax.set(xlabel=draw.wrapped(f"chance of a final score above {totals[0].method}", 40), xlim=(-0.04, 1.04))
    draw.names_axis(ax, [t.method for t in totals[1:]], first=1, most=draw.NAMED // 2)


def _thresholds(found: Comparison) -> np.ndarray:
    """From just below the lowest score to the highest; 0 to 1 for win rates and for scaled returns."""
    if found.score == "win_rate" or len(found.distinct_tasks()) > 1:
        return np.linspace(0.0, 1.0, THRESHOLDS)
    scores = np.concatenate([x for t in found.totals for x in t.finals])
    margin = 0.03 * (np.ptp(scores) or abs(scores[0]) or 1.0)
    return np.linspace(scores.min() - margin, scores.max() + margin, THRESHOLDS)


def _final_label(found: Comparison) -> str:
    scaled = found.score != "win_rate" and len(found.distinct_tasks()) > 1
    label = SCORE_LABELS[found.score]
    return f"final {label}, scaled to [0, 1] in each environment" if scaled else f"final {label}"


def _draw_phases(figure: SubFigure, found: Comparison, styles: Styles) -> None:
    """One task: both phases of every run."""
    phases = [p for p in PROGRESS if any(series(r.traces(p), found.score) for r in found.runs)]
    (row,) = panel_rows(figure, phases, [1.0])
    for phase, ax in row.items():
        for run, method in zip(found.runs, found.methods, strict=True):
            draw_mean(ax, run, phase, found.score, **styles[method])
    draw.score_axis(row[phases[0]], found.score)
    row[phases[0]].set_ylabel(SCORE_LABELS[found.score])
    finish_x([row])


def _draw_tasks(figure: SubFigure, found: Comparison, styles: Styles) -> None:
    """Several tasks: the last phase of each, in a panel of its own."""
    tasks, score = found.distinct_tasks(), found.score
    across = min(ACROSS, len(tasks))
    panels = figure.subplots(-(-len(tasks) // ACROSS), across, squeeze=False, sharey=score == "win_rate").ravel()
    for ax in panels[len(tasks) :]:
        ax.set_axis_off()
    for ax, task in zip(panels, tasks, strict=False):
        mine = found.of_task(task)
        phase = "online" if any(found.results[i].phase == "online" for i in mine) else "offline"
        for i in mine:
            draw_mean(ax, found.runs[i], phase, score, **styles[found.methods[i]])
        draw.score_axis(ax, score)
        ax.set_title(draw.wrapped(task, draw.NAMED), loc="left")
        draw.progress_axis(ax, X_LABELS[phase], ticks=4)
    for ax in panels[::across]:
        ax.set_ylabel(SCORE_LABELS[score])


def _draw_finals(ax: Axes, found: Comparison) -> None:
    """One line per method: the final score of each seed, their interquartile mean and its interval."""
    if not found.totals:
        _nothing(ax)
        return
    for i, total in enumerate(found.totals):
        scores, colour = np.concatenate(total.finals), draw.style_of(i)["color"]
        ax.plot(scores, [i] * len(scores), "o", color=colour, alpha=0.45, markersize=4, markeredgewidth=0, zorder=2)
        draw.draw_estimate(ax, total.iqm, i, colour)
    draw.names_axis(ax, [t.method for t in found.totals])
    ax.set_xlabel(f"{_final_label(found)} (◆ interquartile mean, bar 95 % interval, ● seeds)")
    if found.score == "win_rate":
        ax.set_xlim(-0.02, 1.02)
        ax.set_xticks(np.linspace(0, 1, 6))
        draw.percent_axis(ax.xaxis)


def _nothing(ax: Axes) -> None:
    draw.say_in(ax, "No method was run in every environment.")
    ax.set_axis_off()


def _lines(found: Comparison, most: int) -> int:
    """The lines that the methods' names take at an axis."""
    return sum(1 + draw.wrapped(t.method, most).count("\n") for t in found.totals)
