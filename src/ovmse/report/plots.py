"""The figures of a run. Importing this module imports matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ovmse.render.draw import (
    INK,
    MUTED,
    PALETTE,
    THEME,
    NotebookFigure,
    draw_curve,
    progress_axis,
    say_in,
    score_axis,
    style_of,
)
from ovmse.runs.measure_columns import in_words
from ovmse.runs.metrics_file import PROGRESS, RunRecord, counted_series, rolled_back, score_name, series
from ovmse.stats.estimates import Curve, curve

SCORE_LABELS = {"win_rate": "win rate", "return": "return per episode", "fqe": "value by the log (FQE)"}
X_LABELS = {"offline": "gradient updates", "online": "environment steps (online)", "round": "gradient updates"}
BEFORE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 1}
ABOVE: dict[str, Any] = {"bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
RETURNED: dict[str, Any] = {"color": PALETTE[1], "marker": "v", "linestyle": "", "markersize": 6}
Lines = dict[str, tuple[str, dict[str, Any]]]  # what was logged: its label and how it is drawn
Q_LINES: Lines = {
    "monitor_q_tot": ("Q_tot, fixed dataset steps", {"color": PALETTE[0], "linestyle": "-"}),
    "monitor_offline_value": ("frozen offline value, same steps", {"color": PALETTE[1], "linestyle": "--"}),
    "q_tot": ("Q_tot, training batches", {"color": PALETTE[2], "linestyle": "-."}),
}
SHARES = ("win_rate", "memory_active_share", "monitor_agreement", "lambda")
SHARE_LINES: Lines = {
    "memory_active_share": ("share of targets the memory wins", {"color": PALETTE[1], "linestyle": "-"}),
    "monitor_agreement": ("greedy actions as offline", {"color": PALETTE[0], "linestyle": ":"}),
    "lambda": ("memory weight λ", {"color": PALETTE[3], "linestyle": "--"}),
    "epsilon": ("exploration ε", {"color": PALETTE[5], "linestyle": "-."}),
}
LOG_LINES: Lines = {
    "agreement": ("agents' actions as logged", {"color": PALETTE[0], "linestyle": "-"}),
    "coverage": ("joint actions as logged", {"color": PALETTE[2], "linestyle": "--"}),
}
BEHAVIOUR: dict[str, Any] = {"color": PALETTE[1], "linestyle": (0, (4, 3)), "linewidth": 1.4}


def mean_curve(found: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> Curve:
    """The curve over the seeds that `series` found."""
    return curve([x for _, x, _ in found], [y for _, _, y in found])


def draw_mean(ax: Axes, run: RunRecord, phase: str, name: str, **style: Any) -> None:
    """The curve of a field over the seeds that count; nothing where it was not logged."""
    if found := counted_series(run, phase, name):
        draw_curve(ax, mean_curve(found), **style)


def learning_figure(run: RunRecord, fields: Sequence[str] | None = None) -> Figure:
    """Fields of metrics.jsonl over training, a row each: seeds thin, their interquartile mean thick.

    fields: by default win rate, where there is one, and return; what a log says where nothing was played. One at least
    must have been measured.
    """
    name = score_name(run)
    scores: Sequence[str] = fields or (("win_rate", "return") if name == "win_rate" else (name,))
    phases = [p for p in PROGRESS if any(series(run.traces(p), s) for s in scores)]
    with matplotlib.rc_context(THEME):
        figure = NotebookFigure(figsize=(9, 0.9 + 2.3 * len(scores)), layout="constrained")
        rows = panel_rows(figure, phases, [1.0] * len(scores))
        for row, score in zip(rows, scores, strict=True):
            for phase, ax in row.items():
                _draw_seeds(ax, run, phase, score)
            field_axis(row[phases[0]], score)
            if phases[0] == "offline" and len(phases) == 2 and (past := counted_series(run, "offline", score)):
                row[phases[-1]].axhline(float(mean_curve(past).middle[-1]), **BEFORE)
        finish_x(rows)
        _learning_legend(figure, run, len(phases) == 2)
    return figure


def field_axis(ax: Axes, name: str) -> None:
    """A labelled y axis for a field of metrics.jsonl."""
    score_axis(ax, name if name in SHARES else "return")
    ax.set_ylabel(SCORE_LABELS.get(name, in_words(name)))


def draw_field(ax: Axes, run: RunRecord, phase: str, name: str, label: str, **style: Any) -> None:
    """A field over one phase on axes of somebody's own: the curve of the seeds that count, its interval as a band.

    style: of the line, as matplotlib's `plot` takes it; by default the colour after those that are there.
    """
    drawn = len(ax.get_legend_handles_labels()[1])
    draw_mean(ax, run, phase, name, **{**style_of(drawn), "label": label, **style})
    field_axis(ax, name)
    progress_axis(ax, X_LABELS[phase], ticks=6)
    if drawn:
        ax.legend()


def log_figure(run: RunRecord) -> Figure | None:
    """What held-out episodes say over training: the fitted value beside what they earned, and how far the team follows
    them; None where none were held out."""
    phases = [p for p in PROGRESS if any(series(run.traces(p), name) for name in ("fqe", *LOG_LINES))]
    if not phases:
        return None
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 5.2), layout="constrained")
        values, shares = rows = panel_rows(figure, phases, [2.6, 1.5])
        for phase in phases:
            _draw_seeds(values[phase], run, phase, "fqe")
            draw_mean(values[phase], run, phase, "behaviour_return", **BEHAVIOUR)
            for name, (_, style) in LOG_LINES.items():
                draw_mean(shares[phase], run, phase, name, **style)
        score_axis(values[phases[0]], "fqe")
        values[phases[0]].set_ylabel("discounted return")
        score_axis(shares[phases[0]], "share")
        shares[phases[0]].set_ylabel("share")
        handles = [Line2D([], [], label=text, **style) for text, style in LOG_LINES.values()]
        shares[phases[-1]].legend(handles=handles, loc="lower right", ncols=2, handlelength=2.6, **ABOVE)
        lines = [("fitted Q evaluation", {"color": PALETTE[0]}), ("the episodes' own mean return", BEHAVIOUR)]
        handles = [Line2D([], [], label=text, **style) for text, style in lines]
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handlelength=2.6)
        finish_x(rows)
    return figure


def q_value_figure(run: RunRecord) -> Figure | None:
    """Q_tot against the frozen offline value, and who decides the targets; None if nothing was logged."""
    values, shares = (
        {name: line for name, line in lines.items() if any(counted_series(run, p, name) for p in PROGRESS)}
        for lines in (Q_LINES, SHARE_LINES)
    )
    kinds = [lines for lines in (values, shares) if lines]
    if not kinds:
        return None
    phases = [p for p in PROGRESS if any(counted_series(run, p, name) for name in values | shares)]
    with matplotlib.rc_context(THEME):
        heights = [2.6 if lines is values else 1.5 for lines in kinds]
        figure = Figure(figsize=(9, 1.1 + sum(heights)), layout="constrained")
        rows = panel_rows(figure, phases, heights)
        for row, lines in zip(rows, kinds, strict=True):
            for name, (_, style) in lines.items():
                for phase, ax in row.items():
                    draw_mean(ax, run, phase, name, **style)
            score_axis(row[phases[0]], "return" if lines is values else "share")
            row[phases[0]].set_ylabel("mean Q value" if lines is values else "share")
            handles = [Line2D([], [], label=text, **style) for text, style in lines.values()]
            if row is rows[0]:
                figure.legend(handles=handles, loc="outside upper center", ncols=3, handlelength=2.6)
            else:
                row[phases[-1]].legend(handles=handles, loc="lower right", ncols=2, handlelength=2.6, **ABOVE)
        finish_x(rows)
    return figure


def _draw_seeds(ax: Axes, run: RunRecord, phase: str, name: str) -> None:
    """Every seed as a thin line, with a mark where the guard returned it, and the curve of those that count."""
    found = series(run.traces(phase), name)
    if len(found) > 1:
        for _, x, y in found:
            ax.plot(x, y, color=PALETTE[0], linewidth=0.7, alpha=0.4, zorder=2)
    for trace in run.traces(phase):
        if (there := rolled_back(trace)).any():
            ax.plot(trace.columns["env_steps"][there], trace.columns[name][there], **RETURNED, zorder=5)
    draw_mean(ax, run, phase, name, color=PALETTE[0])


def _learning_legend(figure: Figure, run: RunRecord, both: bool) -> None:
    handles: list[Any] = [Line2D([], [], color=PALETTE[0], label="one seed")]
    if max(len(run.offline), len(run.online), len(run.round)) > 1:
        handles = [
            Line2D([], [], color=PALETTE[0], label="interquartile mean over seeds"),
            Patch(color=PALETTE[0], alpha=0.18, linewidth=0, label="95 % bootstrap interval"),
            Line2D([], [], color=PALETTE[0], linewidth=0.7, alpha=0.6, label="single seeds"),
        ]
    if both:
        handles.append(Line2D([], [], label="level before the handover", **BEFORE))
    if any(rolled_back(trace).any() for trace in run.online):
        handles.append(Line2D([], [], label="back to the offline policy", **RETURNED))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), handlelength=2.2)


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
        title = (
            "batch round"
            if phase == "round"
            else f"{phase} phase" + (", from the handover" if phase == "online" and len(phases) == 2 else "")
        )
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
            say_in(ax, f"{other} only")
    rows[0][phases[0]].figure.align_ylabels([row[phases[0]] for row in rows])
    if len(phases) == 2:
        for row in rows:
            row[phases[-1]].axvline(0, color=INK, linewidth=2, clip_on=False, zorder=4)
