"""The figures of a run. Importing this module imports matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ovmse.render.draw import INK, MUTED, PALETTE, THEME, draw_curve, progress_axis, score_axis
from ovmse.runs.metrics_file import PHASES, RunRecord, Trace, counted, rolled_back, score_name, series
from ovmse.stats.estimates import Curve, curve

SCORE_LABELS = {"win_rate": "win rate", "return": "return per episode"}
X_LABELS = {"offline": "gradient updates", "online": "environment steps (online)"}
BEFORE = (0, (4, 3))
ABOVE: dict[str, Any] = {"bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
RETURNED: dict[str, Any] = {"marker": "v", "s": 34, "color": PALETTE[1], "zorder": 5}
Q_LINES = {
    "monitor_q_tot": ("Q_tot, fixed dataset steps", {"color": PALETTE[0], "linestyle": "-"}),
    "monitor_offline_value": ("frozen offline value, same steps", {"color": PALETTE[1], "linestyle": "--"}),
    "q_tot": ("Q_tot, training batches", {"color": PALETTE[2], "linestyle": "-."}),
}
SHARE_LINES = {
    "memory_active_share": ("share of targets the memory wins", {"color": PALETTE[1], "linestyle": "-"}),
    "monitor_agreement": ("greedy actions as offline", {"color": PALETTE[0], "linestyle": ":"}),
    "lambda": ("memory weight λ", {"color": PALETTE[3], "linestyle": "--"}),
    "epsilon": ("exploration ε", {"color": PALETTE[5], "linestyle": "-."}),
}


def learning_figure(run: RunRecord) -> Figure:
    """Win rate (where there is one) and return over training: seeds thin, their interquartile mean thick."""
    scores = ("win_rate", "return") if score_name(run) == "win_rate" else ("return",)
    phases = [p for p in PHASES if any(series(traces_of(run, p), s) for s in scores)]
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 0.9 + 2.3 * len(scores)), layout="constrained")
        rows = panel_rows(figure, phases, [1.0] * len(scores))
        for row, score in zip(rows, scores, strict=True):
            for phase, ax in row.items():
                _draw_seeds(ax, traces_of(run, phase), score)
            score_axis(row[phases[0]], score)
            row[phases[0]].set_ylabel(SCORE_LABELS[score])
            if len(phases) == 2 and (past := series(counted(run.offline), score)):
                level = float(mean_curve(past).middle[-1])
                row["online"].axhline(level, color=MUTED, linestyle=BEFORE, linewidth=1.1, zorder=1)
        finish_x(rows)
        returned = any(rolled_back(trace).any() for trace in run.online)
        _learning_legend(figure, max(len(run.offline), len(run.online)) > 1, len(phases) == 2, returned)
    return figure


def q_value_figure(run: RunRecord) -> Figure | None:
    """Q_tot against the frozen offline value, and who decides the targets; None if nothing was logged."""
    kinds = [lines for lines in (Q_LINES, SHARE_LINES) if any(_has(run, p, n) for p in PHASES for n in lines)]
    phases = [p for p in PHASES if any(_has(run, p, n) for lines in kinds for n in lines)]
    if not kinds:
        return None
    with matplotlib.rc_context(THEME):
        heights = [2.6 if lines is Q_LINES else 1.5 for lines in kinds]
        figure = Figure(figsize=(9, 1.1 + sum(heights)), layout="constrained")
        rows = panel_rows(figure, phases, heights)
        for row, lines in zip(rows, kinds, strict=True):
            for name, (_, style) in lines.items():
                for phase in (p for p in phases if _has(run, p, name)):
                    draw_curve(row[phase], mean_curve(series(counted(traces_of(run, phase)), name)), **style)
            score_axis(row[phases[0]], "return" if lines is Q_LINES else "share")
            row[phases[0]].set_ylabel("mean Q value" if lines is Q_LINES else "share")
            handles = [Line2D([], [], label=text, **style) for text, style in _drawn(run, lines)]
            if row is rows[0]:
                figure.legend(handles=handles, loc="outside upper center", ncols=3, handlelength=2.6)
            else:
                row[phases[-1]].legend(handles=handles, loc="lower right", ncols=2, handlelength=2.6, **ABOVE)
        finish_x(rows)
    return figure


def traces_of(run: RunRecord, phase: str) -> tuple[Trace, ...]:
    """A run's traces of one phase."""
    return run.offline if phase == "offline" else run.online


def _has(run: RunRecord, phase: str, name: str) -> bool:
    return bool(series(counted(traces_of(run, phase)), name))


def mean_curve(found: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> Curve:
    """The curve over the seeds that `series` found."""
    return curve([x for _, x, _ in found], [y for _, _, y in found])


def _draw_seeds(ax: Axes, traces: tuple[Trace, ...], name: str) -> None:
    """Every seed as a thin line, with a mark where the guard returned it, and the curve of those that count."""
    found = series(traces, name)
    if len(found) > 1:
        for _, x, y in found:
            ax.plot(x, y, color=PALETTE[0], linewidth=0.7, alpha=0.4, zorder=2)
    for trace in traces:
        there = rolled_back(trace)
        ax.scatter(trace.columns["env_steps"][there], trace.columns[name][there], **RETURNED)
    if mine := series(counted(traces), name):
        draw_curve(ax, mean_curve(mine), color=PALETTE[0])


def _learning_legend(figure: Figure, several: bool, both: bool, returned: bool) -> None:
    handles: list[Any] = [Line2D([], [], color=PALETTE[0], label="one seed")]
    if several:
        handles = [
            Line2D([], [], color=PALETTE[0], label="interquartile mean over seeds"),
            Patch(color=PALETTE[0], alpha=0.18, linewidth=0, label="95 % bootstrap interval"),
            Line2D([], [], color=PALETTE[0], linewidth=0.7, alpha=0.6, label="single seeds"),
        ]
    if both:
        handles.append(Line2D([], [], color=MUTED, linestyle=BEFORE, linewidth=1.1, label="level before the handover"))
    if returned:
        mark = {"color": PALETTE[1], "marker": RETURNED["marker"], "linestyle": "", "markersize": 6}
        handles.append(Line2D([], [], label="back to the offline policy", **mark))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), handlelength=2.2)


def _drawn(run: RunRecord, lines: Mapping[str, tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [line for name, line in lines.items() if any(_has(run, p, name) for p in PHASES)]


def panel_rows(figure: Figure | SubFigure, phases: Sequence[str], heights: Sequence[float]) -> list[dict[str, Axes]]:
    """Rows of panels by phase: offline narrow at the left, online at the right, y shared within a row."""
    figure.get_layout_engine().set(wspace=0.05)  # type: ignore[union-attr,call-arg]
    widths = [1 if p == "offline" and len(phases) == 2 else 2.8 for p in phases]
    grid = figure.subplots(
        len(heights), len(phases), sharex="col", sharey="row", squeeze=False,
        width_ratios=widths, height_ratios=heights,
    )  # fmt: skip
    rows = [dict(zip(phases, axes, strict=True)) for axes in grid]
    for phase, ax in rows[0].items():
        title = f"{phase} phase" + (", from the handover" if phase == "online" and len(phases) == 2 else "")
        ax.set_title(title.capitalize(), loc="left")
    return rows


def finish_x(rows: Sequence[Mapping[str, Axes]]) -> None:
    """Label the columns, say where a panel has nothing to show, and mark the handover."""
    phases = list(rows[0])
    for phase in phases:
        narrow = phase == "offline" and len(phases) == 2
        progress_axis(rows[-1][phase], X_LABELS[phase], ticks=2 if narrow else 6)
        for ax in (row[phase] for row in rows if not row[phase].lines):
            other = "online" if phase == "offline" else "offline"
            ax.text(0.5, 0.5, f"{other} only", color=MUTED, ha="center", va="center", transform=ax.transAxes)
    rows[0][phases[0]].figure.align_ylabels([row[phases[0]] for row in rows])
    if len(phases) == 2:
        for row in rows:
            row["online"].axvline(0, color=INK, linewidth=2, clip_on=False, zorder=4)
