"""The figures of the doctor's page, in the look of the reports."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from ovmse.render.draw import INK, MUTED, PALETTE, THEME, compact

BLUE, RED = PALETTE[0], PALETTE[1]


def _pair(title_left: str, title_right: str, width_ratios: Sequence[float] = (1, 1)) -> tuple[Figure, Any]:
    """A figure of two panels with titles, to be drawn within `THEME`."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=width_ratios)
    for ax, title in zip(axes, (title_left, title_right), strict=True):
        ax.set_title(title, loc="left", pad=22)
    return figure, axes


def _legend(ax: Axes) -> None:
    """One line between the title and the panel, where it covers nothing."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=3, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2
    )


def _percent(axis: Any) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def episodes(profile: dict[str, Any]) -> Figure:
    """Histograms of returns, with the components of their mixture, and of lengths."""
    with matplotlib.rc_context(THEME):
        figure, (left, right) = _pair("Returns", "Episode lengths")
        wins = profile["win_rate"] is not None
        for ax, part, unit in ((left, profile["return"], "undiscounted return"), (right, profile["length"], "steps")):
            edges, counts, won = (np.asarray(part[name]) for name in ("edges", "counts", "won"))
            style: dict[str, Any] = {"width": np.diff(edges), "align": "edge"}
            if wins:
                ax.bar(edges[:-1], won, color=BLUE, label="won", **style)
            rest, label = (counts - won, "not won") if wins else (counts, "episodes")
            ax.bar(edges[:-1], rest, bottom=won if wins else 0, color=RED if wins else BLUE, label=label, **style)
            ax.axvline(part["mean"], color=INK, linestyle="--", linewidth=1.2, label=f"mean {part['mean']:.3g}")
            ax.set(xlabel=unit, ylabel="episodes")
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.yaxis.set_major_formatter(FuncFormatter(compact))
            _legend(ax)
        left.margins(y=0.12)
        for part in profile["return_components"]:
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
            left.annotate("▾", (part["mean"], 1.02), fontsize=13, color=INK, **place)
    return figure


def actions(profile: dict[str, Any], names: Sequence[str]) -> Figure:
    """How often each action was taken, by agent, and when it was legal."""
    use = profile["actions"]
    by_agent, place = np.asarray(use["by_agent"]), np.arange(len(names))
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        ax = figure.subplots()
        ax.set_title("Actions", loc="left", pad=22)
        ax.bar(place, use["share"], color=BLUE, width=0.7, alpha=0.85, label="share of all choices")
        offset = np.linspace(-0.22, 0.22, len(by_agent)) if len(by_agent) > 1 else np.zeros(1)
        x, y = (place + offset[:, None]).ravel(), by_agent.ravel()
        ax.plot(x, y, "o", color=INK, markersize=3, label="share of each agent's")
        legal = [np.nan if share is None else share for share in use["share_when_legal"]]
        ax.plot(place, legal, "D", color=RED, markersize=5, label="where legal")
        every = max(1, -(-len(names) // 20))
        shown = [n if len(n) <= 14 else n[:13] + "…" for n in names[::every]]
        slanted = sum(len(n) + 1 for n in shown) > 70
        ax.set_xticks(place[::every], shown, rotation=40 if slanted else 0, ha="right" if slanted else "center")
        ax.set(xlabel="action", ylabel="share", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
        _percent(ax.yaxis)
        ax.grid(axis="x", visible=False)
        _legend(ax)
    return figure


def order(profile: dict[str, Any]) -> Figure:
    """Returns, and wins where there are any, along the dataset."""
    blocks = profile["blocks"]
    edges = np.asarray([*blocks["first"], profile["examined"]])
    series = [("mean return", blocks["return_mean"], profile["return"]["mean"])]
    if blocks["win_rate"] is not None:
        series.append(("win rate", blocks["win_rate"], profile["win_rate"]))
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        panels = figure.subplots(1, len(series), squeeze=False)[0]
        for ax, (label, values, mean) in zip(panels, series, strict=True):
            ax.stairs(values, edges, baseline=None, color=BLUE, linewidth=1.8)
            ax.axhline(mean, color=INK, linestyle="--", linewidth=1.2)
            ax.set_title(f"{label.capitalize()} along the dataset", loc="left")
            ax.set(xlabel="episode", xlim=(0, profile["examined"]))
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.xaxis.set_major_formatter(FuncFormatter(compact))
            if label == "win rate":
                ax.set_ylim(-0.03, 1.03)
                _percent(ax.yaxis)
    return figure


def play(profile: dict[str, Any]) -> Figure | None:
    """The cloned policy: entropy and accuracy by agent, and the held-out episodes' z against their return."""
    clone, held = profile["clone"], profile["held_out"]
    if clone is None or held is None:
        return None
    with matplotlib.rc_context(THEME):
        figure, (left, right) = _pair("Cloned policy, by agent", "Held-out episodes")
        agents = [(i, found) for i, found in enumerate(clone["agents"]) if found is not None]
        x = [i for i, _ in agents]
        left.plot(x, [a["entropy_share"] for _, a in agents], "o", color=BLUE, label="entropy, of uniform play's")
        left.plot(x, [a["accuracy"] for _, a in agents], "D", color=RED, label="accuracy")
        left.plot(x, [a["uniform_accuracy"] for _, a in agents], "_", color=MUTED, markersize=12, label="by chance")
        left.set(xlabel="agent", ylim=(-0.03, 1.03), xlim=(-0.5, len(clone["agents"]) - 0.5))
        left.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        left.grid(axis="x", visible=False)
        _percent(left.yaxis)
        _legend(left)
        right.axhspan(-2, 2, color=MUTED, alpha=0.15, linewidth=0, label="95 % of one policy's, well fitted")
        right.plot(held["returns"], held["z"], ".", color=BLUE, markersize=4, alpha=0.6, label="episode")
        right.set(xlabel="undiscounted return", ylabel="z: surprise beyond the expected")
        _legend(right)
    return figure
