"""The figures of the doctor's page, and one of a profile, in the look of the reports."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ovmse.core.errors import number_of
from ovmse.inspection.tables import names_of
from ovmse.render.draw import INK, MUTED, PALETTE, THEME, compact, lay_out, percent_axis, shortened

BLUE, RED = PALETTE[0], PALETTE[1]


def plot_profile(profile: dict[str, Any], action_names: Sequence[str] | None = None) -> Figure:
    """Four panels of a profile: returns, lengths, action use, and wins (or returns) in the order of episodes.

    Raises `UserError` on a wrong number of names.
    """
    names = names_of(len(profile["actions"]["share"]), action_names)
    with matplotlib.rc_context(THEME):
        figure = Figure(figsize=(10, 7.2), dpi=120, facecolor="white", layout="constrained")
        (returns, lengths), (use, along) = figure.subplots(2, 2)
        _episodes(returns, profile, "return")
        _episodes(lengths, profile, "length")
        _actions(use, profile, names, room=44)
        _order(along, profile, "mean return" if profile["win_rate"] is None else "win rate")
        label = " – ".join(filter(None, (profile["environment"], profile["quality"])))
        episodes, steps = (number_of(profile[f"{noun}s"], noun) for noun in ("episode", "step"))
        figure.suptitle(f"{label}: {episodes}, {steps}", fontsize=13)
        lay_out(figure)
    return figure


def page_figures(profile: dict[str, Any], names: Sequence[str]) -> dict[str, Figure]:
    """The figures of the doctor's page: episodes, actions, play (where a policy was cloned), and order."""
    averages = ["mean return"] if profile["win_rate"] is None else ["mean return", "win rate"]
    heights = {"episodes": 3.2, "actions": 3.4, "play": 3.2, "order": 2.8}
    if profile["clone"] is None or profile["held_out"] is None:
        del heights["play"]
    with matplotlib.rc_context(THEME):
        found = {name: Figure(figsize=(9, height), layout="constrained") for name, height in heights.items()}
        left, right = found["episodes"].subplots(1, 2)
        _episodes(left, profile, "return")
        _episodes(right, profile, "length")
        left.margins(y=0.12)
        for part in profile["return_components"]:
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
            left.annotate("▾", (part["mean"], 1.02), fontsize=13, color=INK, **place)
        _actions(found["actions"].subplots(), profile, names, room=70)
        if "play" in found:
            left, right = found["play"].subplots(1, 2)
            _clones(left, profile["clone"]["agents"])
            _held_out(right, profile["held_out"])
        for ax, name in zip(found["order"].subplots(1, len(averages), squeeze=False)[0], averages, strict=True):
            _order(ax, profile, name)
    return found


def _clones(ax: Axes, agents: Sequence[dict[str, Any] | None]) -> None:
    found = [(i, agent) for i, agent in enumerate(agents) if agent is not None]
    x = [i for i, _ in found]
    ax.plot(x, [agent["entropy_share"] for _, agent in found], "o", color=BLUE, label="entropy, of uniform play's")
    ax.plot(x, [agent["accuracy"] for _, agent in found], "D", color=RED, label="accuracy")
    chance = [agent["uniform_accuracy"] for _, agent in found]
    ax.plot(x, chance, "_", color=MUTED, markersize=12, label="by chance")
    ax.set(xlabel="agent", ylim=(-0.03, 1.03), xlim=(-0.5, len(agents) - 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    ax.grid(axis="x", visible=False)
    percent_axis(ax.yaxis)
    _legend(ax, "Cloned policy, by agent")


def _held_out(ax: Axes, held: dict[str, Any]) -> None:
    ax.axhspan(-2, 2, color=MUTED, alpha=0.15, linewidth=0, label="95 % of one policy's, well fitted")
    ax.plot(held["returns"], held["z"], ".", color=BLUE, markersize=4, alpha=0.6, label="episode")
    ax.set(xlabel="undiscounted return", ylabel="z: surprise beyond the expected")
    _legend(ax, "Held-out episodes")


def _legend(ax: Axes, title: str) -> None:
    """A title, and a legend in one line between it and the panel, where it covers nothing."""
    ax.set_title(title, loc="left", pad=22)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.99), "ncols": 3}
    ax.legend(borderaxespad=0.2, handlelength=1.4, columnspacing=1.2, **place)


def _episodes(ax: Axes, profile: dict[str, Any], name: str) -> None:
    """Bars of episodes by their return or length, won ones at the bottom; a line at the mean."""
    part, wins = profile[name], profile["win_rate"] is not None
    edges, counts, won = (np.asarray(part[key]) for key in ("edges", "counts", "won"))
    if wins:
        ax.stairs(won, edges, fill=True, color=BLUE, label="won")
    label, colour = ("not won", RED) if wins else ("episodes", BLUE)
    ax.stairs(counts, edges, baseline=won if wins else 0, fill=True, color=colour, label=label)
    ax.axvline(part["mean"], color=INK, linestyle="--", linewidth=1.2, label=f"mean {part['mean']:.3g}")
    ax.set(xlabel="undiscounted return" if name == "return" else "steps", ylabel="episodes")
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_formatter(compact)
    _legend(ax, "Returns" if name == "return" else "Episode lengths")


def _actions(ax: Axes, profile: dict[str, Any], names: Sequence[str], room: int) -> None:
    """Bars of how often each action was taken, dots for each agent's, diamonds for how often when legal.

    room: about so many characters fit under the panel; longer names are slanted, and of many every k-th is named.
    """
    use, place = profile["actions"], np.arange(len(names))
    by_agent = np.asarray(use["by_agent"])
    ax.bar(place, use["share"], color=BLUE, width=0.7, alpha=0.85, label="share of all choices")
    offset = np.linspace(-0.22, 0.22, len(by_agent)) if len(by_agent) > 1 else np.zeros(1)
    x, y = (place + offset[:, None]).ravel(), by_agent.ravel()
    ax.plot(x, y, "o", color=INK, markersize=3, label="share of each agent's")
    legal = [np.nan if share is None else share for share in use["share_when_legal"]]
    ax.plot(place, legal, "D", color=RED, markersize=5, label="where legal")
    every = max(1, -(-len(names) // 20))
    shown = shortened(names, 14)[::every]
    slanted = sum(len(name) + 1 for name in shown) > room
    ax.set_xticks(place[::every], shown, rotation=40 if slanted else 0, ha="right" if slanted else "center")
    ax.set(xlabel="action", ylabel="share", ylim=(0, None), xlim=(-0.6, len(names) - 0.4))
    percent_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)
    _legend(ax, "Actions")


def _order(ax: Axes, profile: dict[str, Any], name: str) -> None:
    """The mean return or the win rate of equal parts of the dataset; dashed: of all."""
    blocks, last = profile["blocks"], profile.get("examined", profile["episodes"])
    wins = name == "win rate"
    values = blocks["win_rate" if wins else "return_mean"]
    ax.stairs(values, [*blocks["first"], last], baseline=None, color=BLUE, linewidth=1.8, label="equal parts")
    mean = profile["win_rate"] if wins else profile["return"]["mean"]
    ax.axhline(mean, color=INK, linestyle="--", linewidth=1.2, label="all episodes")
    ax.set(xlabel="episode", ylabel=name, xlim=(0, last))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(compact)
    if wins:
        ax.set_ylim(-0.03, 1.03)
        percent_axis(ax.yaxis)
    _legend(ax, f"{name.capitalize()} along the dataset")
