"""One figure of a profile in four panels: returns, lengths, action use, and the order of the episodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ovmse.inspection.tables import names_of

# Okabe and Ito's palette: told apart with any kind of colour vision, and in grey.
BLUE, ORANGE = "#0072B2", "#E69F00"


def plot_profile(data: dict[str, Any], action_names: Sequence[str] | None = None) -> Figure:
    """Four panels of a profile: returns, lengths, action use, and wins (or returns) in the order of episodes.

    Raises `UserError` on a wrong number of names.
    """
    names = names_of(len(data["actions"]["share"]), action_names)
    figure = Figure(figsize=(10, 7.2), dpi=120, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    (returns, lengths), (actions, order) = figure.subplots(2, 2)
    for axes in (returns, lengths, actions, order):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    _histogram(returns, data["return"], data["win_rate"] is not None)
    _title(returns, "Returns")
    returns.set(xlabel="undiscounted return of an episode", ylabel="episodes")
    _histogram(lengths, data["length"], data["win_rate"] is not None)
    _title(lengths, "Episode lengths")
    lengths.set(xlabel="steps", ylabel="episodes")
    _action_bars(actions, data, names)
    _by_order(order, data)
    label = " – ".join(filter(None, (data["environment"], data["quality"])))
    figure.suptitle(f"{label}: {data['episodes']:,} episodes, {data['steps']:,} steps", fontsize=13)
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", pad=24, fontweight="bold")


def _legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend in one line between the title and the panel, where it covers nothing."""
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(labels),
        frameon=False,
        fontsize="small",
        borderaxespad=0.3,
        borderpad=0.2,
        handlelength=1.6,
        columnspacing=1.4,
    )


def _histogram(axes: Axes, part: dict[str, Any], wins: bool) -> None:
    """Bars of episodes, won ones at the bottom; a line at the mean."""
    edges, counts, won = (np.asarray(part[name]) for name in ("edges", "counts", "won"))
    width = np.diff(edges)
    style: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
    axes.bar(edges[:-1], won, color=BLUE, label="won", **style)
    axes.bar(edges[:-1], counts - won, bottom=won, color=ORANGE if wins else BLUE, label="not won", **style)
    mean = axes.axvline(part["mean"], color="black", linestyle="--", linewidth=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    bars = list(axes.containers) if wins else []
    labels = ["won", "not won"] if wins else []
    _legend(axes, [*bars, mean], [*labels, f"mean {part['mean']:.3g}"])


def _action_bars(axes: Axes, data: dict[str, Any], names: list[str]) -> None:
    """Bars of how often each action was taken, dots for how often when legal, ticks for the agents' range."""
    use = data["actions"]
    place = np.arange(len(names))
    by_agent = np.asarray(use["by_agent"])
    axes.bar(place, use["share"], color=BLUE, width=0.7, label="all choices")
    if data["agents"] > 1:
        low, high = by_agent.min(axis=0), by_agent.max(axis=0)
        axes.vlines(place, low, high, color="black", linewidth=1.4, label="range of agents")
    when = [np.nan if share is None else share for share in use["share_when_legal"]]
    axes.plot(place, when, "D", color=ORANGE, markersize=5, markeredgecolor="black", label="when legal")
    _title(axes, "Action use")
    axes.set(ylabel="share of choices", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _legend(axes, *axes.get_legend_handles_labels())
    _action_ticks(axes, names)


def _action_ticks(axes: Axes, names: list[str]) -> None:
    """Labels under the bars that do not touch: upright when short, else slanted; every k-th when many."""
    every = max(1, int(np.ceil(len(names) / 20)))
    place = np.arange(0, len(names), every)
    shown = [names[i] if len(names[i]) <= 16 else names[i][:15] + "…" for i in place]
    crowded = sum(len(name) + 1 for name in shown) > 44
    axes.set_xticks(place, shown, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    axes.set_xlabel("action")


def _by_order(axes: Axes, data: dict[str, Any]) -> None:
    """The win rate, or where nothing can be won the mean return, along the episodes."""
    blocks = data["blocks"]
    edges = np.asarray([*blocks["first"], data["episodes"]])
    wins = blocks["win_rate"] is not None
    values = blocks["win_rate"] if wins else blocks["return_mean"]
    overall = data["win_rate"] if wins else data["return"]["mean"]
    axes.stairs(values, edges, baseline=None, color=BLUE, linewidth=2, label="block of episodes")
    axes.axhline(overall, color="black", linestyle="--", linewidth=1.2, label="all episodes")
    if wins:
        _title(axes, "Wins in the order of episodes")
        axes.set(ylabel="win rate", ylim=(-0.02, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    else:
        _title(axes, "Returns in the order of episodes")
        axes.set(ylabel="mean return")
    axes.set(xlabel="episode index", xlim=(0, data["episodes"]))
    _legend(axes, *axes.get_legend_handles_labels())
