"""What a dataset looks like: a profile in numbers, the same as tables in the terminal, and as one figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovmse.data.doctor import KINDS, step_rows
from ovmse.data.store import Dataset
from ovmse.errors import UserError

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_BLOCKS = 20

# Okabe and Ito's palette: told apart with any kind of colour vision, and in grey.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#666666"


def profile(dataset: Dataset) -> dict[str, Any]:
    """The dataset in numbers, as JSON values.

    ``return`` and ``length`` (steps) hold mean, std, min, max, quantiles and a histogram: ``edges``, one more
    than ``counts``; ``won`` counts the won episodes of each bin. ``win_rate`` is null without wins.
    ``actions`` has, per action: ``share`` of all choices; ``by_agent``, the same for each agent (N, A);
    ``legal``, the share of choices at which it was legal; ``share_when_legal``, the share of those at which
    it was taken (null if never legal). ``blocks`` follows the episodes in their order: the first one, the
    mean return and the win rate of each block.
    """
    meta = dataset.metadata
    returns = dataset.returns()
    return {
        "path": str(dataset.path),
        "environment": meta.env.name,
        "version": meta.env.version,
        "behaviour": meta.behaviour,
        "quality": meta.quality,
        "agents": meta.env.n_agents,
        "episodes": meta.episodes,
        "steps": meta.steps,
        "episode_limit": meta.env.episode_limit,
        "win_rate": meta.win_rate,
        "ended_by_task": float(dataset.terminal[dataset.step_start + dataset.length - 1].mean()),
        "return": _spread(returns, dataset.won, _bin_edges(returns)),
        "length": _spread(dataset.length, dataset.won, _bin_edges(dataset.length, whole=True)),
        "actions": _action_use(dataset),
        "blocks": _blocks(dataset, returns),
        "bytes_on_disk": sum(file.stat().st_size for file in dataset.path.rglob("*") if file.is_file()),
        "bytes_in_memory": sum(getattr(dataset, field).nbytes for field in KINDS),
    }


def _bin_edges(values: np.ndarray, whole: bool = False) -> np.ndarray:
    """Edges of at most 30 equally wide bins; `whole` puts them between whole numbers."""
    low, high = float(values.min()), float(values.max())
    if whole:
        width = int(np.ceil((high - low + 1) / 30))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 1 + int(np.clip(np.sqrt(len(values)), 5, 30)))


def _spread(values: np.ndarray, won: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """Mean, spread and histogram of one number per episode."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in QUANTILES},
        "edges": edges.tolist(),
        "counts": np.histogram(values, edges)[0].tolist(),
        "won": np.histogram(values[won], edges)[0].tolist(),
    }


def _action_use(dataset: Dataset) -> dict[str, Any]:
    """How often each action was taken and legal."""
    n_agents, n_actions = dataset.spec.n_agents, dataset.spec.n_actions
    key = dataset.action.astype(np.int64) + n_actions * np.arange(n_agents)
    taken = np.bincount(key.ravel(), minlength=n_agents * n_actions).reshape(n_agents, n_actions)
    legal = dataset.avail[step_rows(dataset.length)].sum(axis=(0, 1))
    total = taken.sum(axis=0)
    return {
        "share": (total / total.sum()).tolist(),
        "by_agent": (taken / len(dataset.action)).tolist(),
        "legal": (legal / total.sum()).tolist(),
        "share_when_legal": [float(t / n) if n else None for t, n in zip(total, legal, strict=True)],
    }


def _blocks(dataset: Dataset, returns: np.ndarray) -> dict[str, Any]:
    """The episodes in their order, in up to 20 equal blocks."""
    parts = np.array_split(np.arange(len(returns)), min(MOST_BLOCKS, len(returns)))
    return {
        "first": [int(part[0]) for part in parts],
        "return_mean": [float(returns[part].mean()) for part in parts],
        "win_rate": [float(dataset.won[part].mean()) for part in parts] if dataset.spec.has_win else None,
    }


def _names(n_actions: int, action_names: Sequence[str] | None) -> list[str]:
    """The names of the actions, or their numbers."""
    if action_names is None:
        return [str(action) for action in range(n_actions)]
    if len(action_names) != n_actions:
        raise UserError(f"action_names: expected {n_actions} names, one per action, got {len(action_names)}.")
    return list(action_names)


def print_profile(dataset: Dataset, console: Console, action_names: Sequence[str] | None = None) -> None:
    """Print the profile as tables that fit 80 columns. Raises `UserError` on a wrong number of names."""
    data = profile(dataset)
    names = _names(dataset.spec.n_actions, action_names)
    console.print(_overview(data))
    console.print(_spreads(data))
    console.print(_actions(data, names))


def _overview(data: dict[str, Any]) -> Table:
    table = Table(show_header=False, title=escape(data["environment"]), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "dataset": data["path"],
        "version": data["version"],
        "behaviour": data["behaviour"] + (f" ({data['quality']})" if data["quality"] else ""),
        "episodes": f"{data['episodes']:,}",
        "steps": f"{data['steps']:,} ({data['steps'] * data['agents']:,} choices of {data['agents']} agents)",
        "win rate": "none: cannot be won" if data["win_rate"] is None else f"{data['win_rate']:.1%}",
        "ended by the task": f"{data['ended_by_task']:.1%} of episodes (the rest were cut)",
        "size": f"{_size(data['bytes_on_disk'])} on disk, {_size(data['bytes_in_memory'])} in memory",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _spreads(data: dict[str, Any]) -> Table:
    table = Table(title="Episodes", title_justify="left")
    for heading in ("", "return", "steps"):
        table.add_column(heading, justify="right" if heading else "left")
    quantiles = {f"{float(q):.0%} quantile": q for q in data["return"]["quantiles"]}
    for name in ("mean", "std", "min", *quantiles, "max"):
        parts = (data["return"], data["length"])
        values = (p["quantiles"][quantiles[name]] if name in quantiles else p[name] for p in parts)
        table.add_row(name, *(f"{value:.4g}" for value in values))
    return table


def _actions(data: dict[str, Any], names: list[str]) -> Table:
    use = data["actions"]
    few = data["agents"] <= 5
    table = Table(title="Actions: share of choices", title_justify="left")
    table.add_column("action", overflow="ellipsis", max_width=18)
    for heading in ("all", "legal", "if legal", *(f"agent {i}" for i in range(data["agents"]) if few)):
        table.add_column(heading, justify="right")
    for action, name in enumerate(names):
        taken = use["share_when_legal"][action]
        agents = [f"{row[action]:.1%}" for row in use["by_agent"]] if few else []
        often = "–" if taken is None else f"{taken:.1%}"
        table.add_row(escape(name), f"{use['share'][action]:.1%}", f"{use['legal'][action]:.1%}", often, *agents)
    return table


def _size(n_bytes: int) -> str:
    """A number of bytes for people, in powers of 1024."""
    value, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"


def plot_profile(data: dict[str, Any], action_names: Sequence[str] | None = None) -> Figure:
    """Four panels of a profile: returns, lengths, action use, and wins (or returns) in the order of episodes.

    Raises `UserError` on a wrong number of names.
    """
    names = _names(len(data["actions"]["share"]), action_names)
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
