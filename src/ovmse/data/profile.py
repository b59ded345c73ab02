"""The profile of a dataset in numbers, all of them JSON values.

Axes: E episodes, M steps, N agents, A actions.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.schema import Metadata, Names, step_rows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_BLOCKS = 20


class Basics(NamedTuple):
    """What the profile is made from: returns, length, won, ended (E,); taken (N, A), legal (A,): choices at which an
    action was taken, was legal."""

    returns: np.ndarray
    length: np.ndarray
    won: np.ndarray
    ended: np.ndarray
    taken: np.ndarray
    legal: np.ndarray


def numbers(spec: EnvSpec, basics: Basics) -> dict[str, Any]:
    """The part of a profile that its arrays tell.

    ``return`` and ``length`` (steps) hold mean, std, min, max, quantiles and a histogram: ``edges``, one more
    than ``counts``; ``won`` counts the won episodes of each bin. ``win_rate`` is null without wins.
    ``actions`` has, per action: ``share`` of all choices; ``by_agent``, the same for each agent (N, A);
    ``legal``, the share of choices at which it was legal; ``share_when_legal``, the share of those at which
    it was taken (null if never legal). ``blocks`` follows the episodes in their order: the first one, the
    mean return and the win rate of each block.
    """
    returns, length, won, ended, taken, legal = basics
    total = taken.sum(axis=0)
    blocks = np.array_split(np.arange(len(returns)), min(MOST_BLOCKS, len(returns)))
    return {
        "win_rate": float(won.mean()) if spec.has_win else None,
        "ended_by_task": float(ended.mean()),
        "return": _spread(returns, won, bin_edges(returns)),
        "length": _spread(length, won, bin_edges(length, whole=True)),
        "actions": {
            "share": (total / total.sum()).tolist(),
            "by_agent": (taken / int(length.sum())).tolist(),
            "legal": (legal / total.sum()).tolist(),
            "share_when_legal": [float(t / n) if n else None for t, n in zip(total, legal, strict=True)],
        },
        "blocks": {
            "first": [int(block[0]) for block in blocks],
            "return_mean": [float(returns[block].mean()) for block in blocks],
            "win_rate": [float(won[block].mean()) for block in blocks] if spec.has_win else None,
        },
    }


def bin_edges(values: np.ndarray, whole: bool = False) -> np.ndarray:
    """Edges of at most 30 equally wide bins; `whole` puts them between whole numbers."""
    low, high = float(values.min()), float(values.max())
    if whole:
        width = int(np.ceil((high - low + 1) / 30))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 1 + int(np.clip(np.sqrt(len(values)), 5, 30)))


def _spread(values: np.ndarray, won: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
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


def about(path: Path, spec: EnvSpec, metadata: Metadata | None, length: np.ndarray, nbytes: int) -> dict[str, Any]:
    """Where a dataset comes from, by its metadata, its size in files and, `nbytes`, in memory; length: (E,)."""
    told = metadata.names if metadata else Names()
    return {
        "path": str(path),
        "environment": spec.name,
        "version": spec.version,
        "behaviour": metadata.behaviour if metadata else "unknown",
        "quality": metadata.quality if metadata else "",
        "source": metadata.source if metadata else "",
        "checksum": metadata.checksum if metadata else "",
        "agents": spec.n_agents,
        "names": {kind: names and list(names) for kind, names in told._asdict().items()},
        "episodes": len(length),
        "steps": int(length.sum(dtype=np.int64)),
        "episode_limit": spec.episode_limit,
        "bytes_on_disk": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "bytes_in_memory": nbytes,
    }


def profile(dataset: Dataset) -> dict[str, Any]:
    """A dataset in memory in numbers, as JSON values: where it comes from, `numbers`, and ``own_actions``, the actions
    of each agent that are ever legal for it; null where all are."""
    n_agents, n_actions = dataset.spec.n_agents, dataset.spec.n_actions
    key = dataset.action.astype(np.int64) + n_actions * np.arange(n_agents)
    basics = Basics(
        returns=dataset.returns(),
        length=dataset.length,
        won=dataset.won,
        ended=dataset.terminal[dataset.step_start + dataset.length - 1],
        taken=np.bincount(key.ravel(), minlength=n_agents * n_actions).reshape(n_agents, n_actions),
        legal=dataset.avail[step_rows(dataset.length)].sum(axis=(0, 1)),
    )
    told = about(dataset.path, dataset.spec, dataset.metadata, dataset.length, dataset.nbytes)
    ever = np.asarray(dataset.avail.any(axis=0))
    own = None if ever.all() else [np.flatnonzero(mine).tolist() for mine in ever]
    return told | numbers(dataset.spec, basics) | {"own_actions": own}
