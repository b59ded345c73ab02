"""What is measured: the maps' sizes, and synthetic datasets of them, so that no environment is needed for an update."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.types import EnvSpec, Flat, action_dtype
from ovmse.data.dataset import Dataset
from ovmse.data.schema import LATER, Metadata

MAPS = {"3m": (3, 3), "2s3z": (5, 5), "5m_vs_6m": (5, 6), "6h_vs_8z": (6, 8), "27m_vs_30m": (27, 30)}
"""Allies and enemies of each map."""

FULL_STEPS = 70  # every episode this long, and the limit too: no row of a batch is padding
BATTLE_STEPS = (12, 25, 55)  # the shortest, the most frequent and the longest battle on SMAX's maps
BATTLE_LIMIT = 100  # steps: SMAX's own time limit
DATASET_BYTES = 128 * 2**20  # several times a cache, as a real dataset is
EPISODES = 32, 512  # the fewest and the most episodes of a synthetic dataset


def battle_spec(allies: int, enemies: int, limit: int, name: str = "synthetic") -> EnvSpec:
    """The sizes that SMAX gives a battle of so many units: 13 observed features of each other unit and 10 of one's
    own, 12 state features of each unit, and 5 actions (four moves and a stop) beside one shot per enemy."""
    return EnvSpec(
        name=name,
        version="1",
        settings={},
        n_agents=allies,
        n_actions=5 + enemies,
        obs_size=10 + 13 * (allies - 1 + enemies),
        state_size=12 * (allies + enemies),
        episode_limit=limit,
        has_win=True,
    )


def map_spec(name: str, limit: int) -> EnvSpec:
    """The sizes of one of `MAPS`, with a time limit of so many steps."""
    return battle_spec(*MAPS[name], limit, f"smax:{name}")


def battle_lengths(episodes: int, limit: int, seed: int = 0) -> np.ndarray:
    """Steps of so many synthetic battles, int32 [E], spread as real ones are."""
    drawn = np.random.default_rng(seed).triangular(*BATTLE_STEPS, size=episodes)
    return np.clip(np.rint(drawn), 1, limit).astype(np.int32)


def full_lengths(episodes: int, limit: int) -> np.ndarray:
    """Steps of so many episodes that all last to the limit, int32 [E]."""
    return np.full(episodes, limit, np.int32)


def dataset_episodes(row_bytes: int, steps: float) -> int:
    """How many episodes of so many steps make a dataset of `DATASET_BYTES`, within `EPISODES`."""
    return int(np.clip(DATASET_BYTES / (row_bytes * (steps + 1)), *EPISODES))


def random_flat(spec: EnvSpec, lengths: np.ndarray, seed: int = 0) -> Flat:
    """Random episodes of the given lengths [E]: uniform features, most actions legal, legal actions taken."""
    rng = np.random.default_rng(seed)
    steps, rows = int(lengths.sum()), int(lengths.sum()) + len(lengths)
    n, a = spec.n_agents, spec.n_actions
    avail = rng.random((rows, n, a), np.float32) < 0.7
    avail[..., 0] = True
    at_steps = np.delete(avail, np.cumsum(lengths + 1) - 1, axis=0)
    terminal = np.zeros(steps, bool)
    terminal[np.cumsum(lengths) - 1] = True
    return Flat(
        obs=rng.random((rows, n, spec.obs_size), np.float32),
        state=rng.random((rows, spec.state_size), np.float32),
        avail=avail,
        action=np.where(at_steps, rng.random(at_steps.shape, np.float32), -1.0).argmax(-1).astype(action_dtype(a)),
        reward=rng.random(steps, np.float32),
        terminal=terminal,
        length=lengths.astype(np.int32),
        won=rng.random(len(lengths)) < 0.5,
    )


def synthetic(spec: EnvSpec, lengths: np.ndarray) -> Dataset:
    """A dataset of `random_flat` that is not on a disk; its statistics say nothing."""
    nothing: dict[Any, Any] = {str: "", int: 0, float: 0.0}
    told: dict[str, Any] = {f.name: nothing.get(f.type) for f in dataclasses.fields(Metadata) if f.name not in LATER}
    return Dataset(Path(), Metadata(**{**told, "env": spec}), **random_flat(spec, lengths))
