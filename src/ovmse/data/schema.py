"""The format of a dataset: its fields, their kinds and shapes, and its metadata (docs/datasets.md)."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec

FIELDS = {
    "obs": ("f", "row", "agent", "feature"),
    "state": ("f", "row", "feature"),
    "avail": ("b", "row", "agent", "action"),
    "action": ("iu", "step", "agent"),
    "reward": ("f", "step"),
    "terminal": ("b", "step"),
    "length": ("iu", "episode"),
    "won": ("b", "episode"),
}
"""The NumPy kinds that a field's dtype may have, and the names of its axes; an episode has a row more than steps."""

KINDS = {field: kinds for field, (kinds, *_) in FIELDS.items()}
DIMENSIONS = {field: tuple(axes) for field, (_, *axes) in FIELDS.items()}
ROWS = tuple(field for field, axes in DIMENSIONS.items() if axes[0] == "row")
STEPS = tuple(field for field, axes in DIMENSIONS.items() if axes[0] == "step")
KIND_NAMES = {"f": "floating-point", "b": "bool", "iu": "integer"}


def shapes(spec: EnvSpec, episodes: int, steps: int) -> dict[str, tuple[int, ...]]:
    """The shape of every field for E `episodes` and M `steps` of an environment."""
    rows, n = steps + episodes, spec.n_agents
    return {
        "obs": (rows, n, spec.obs_size),
        "state": (rows, spec.state_size),
        "avail": (rows, n, spec.n_actions),
        "action": (steps, n),
        "reward": (steps,),
        "terminal": (steps,),
        "length": (episodes,),
        "won": (episodes,),
    }


def starts(count: np.ndarray) -> np.ndarray:
    """The first index of every episode in a flat axis where episode e has `count[e]` entries, shape (E,)."""
    return np.cumsum(count, dtype=np.int64) - count


def step_rows(length: np.ndarray) -> np.ndarray:
    """The row that each step starts from, shape (M,): rows run one ahead of steps with every episode."""
    return np.arange(length.sum()) + np.repeat(np.arange(len(length)), length)


def places(length: np.ndarray, first: int, end: int, step: int | None = None) -> dict[str, slice]:
    """Where the episodes from `first` to before `end` lie in the array of every field.

    step: the first step of them, where it is known; else all lengths before are summed up.
    """
    step = int(length[:first].sum(dtype=np.int64)) if step is None else step
    stop = step + int(length[first:end].sum(dtype=np.int64))
    by_axis = {"row": slice(step + first, stop + end), "step": slice(step, stop), "episode": slice(first, end)}
    return {field: by_axis[axes[0]] for field, axes in DIMENSIONS.items()}


def cuts(size: np.ndarray, limit: int) -> list[int]:
    """The first episode of every block of about `limit` bytes, and E, where episodes have `size` bytes, shape (E,)."""
    return [0, *(np.flatnonzero(np.diff(np.cumsum(size, dtype=np.int64) // limit)) + 1).tolist(), len(size)]


SCHEMA_VERSION = 1

SIZES = ("n_agents", "n_actions", "obs_size", "state_size", "episode_limit", "episodes", "steps")


class Names(NamedTuple):
    """What the log calls its agents, its actions, and the features of observations and of the state; None: not told."""

    agents: tuple[str, ...] | None = None
    actions: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    state_features: tuple[str, ...] | None = None


NAMED = dict(zip(Names._fields, ("n_agents", "n_actions", "obs_size", "state_size"), strict=True))
"""The size in `EnvSpec` that says how many names of each kind there are."""

LATER = ("source", "assumptions", "recipe", "checksum", *NAMED)
"""Attributes that older datasets do not have."""


def check_names(where: str, spec: EnvSpec, names: Names) -> None:
    """Raise `UserError` unless there is one name for each agent, action and feature, no two alike, or none at all."""
    for kind, given in names._asdict().items():
        size = NAMED[kind]
        if given is None:
            continue
        if len(given) != getattr(spec, size):
            raise UserError(f"{where}: {kind}: expected {getattr(spec, size)} names ({size}), got {len(given)}.")
        if len(set(given)) < len(given):
            twice = next(name for name in given if given.count(name) > 1)
            raise UserError(f"{where}: {kind}: expected names that differ, {twice!r} comes twice.")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Where a dataset comes from and what is in it. Returns are undiscounted sums of an episode's rewards."""

    schema_version: int
    """Version of the format; this library reads version 1."""
    env: EnvSpec
    """The environment that the play was collected in."""
    behaviour: str
    """Who played, in words."""
    quality: str
    """The name of the level of play, such as ``medium``."""
    seed: int | None
    """The seed the play was collected with; null where there was none."""
    git_revision: str
    """The revision of the code that collected the play."""
    command: str
    """The command that wrote the dataset."""
    created: str
    """The date of writing, YYYY-MM-DD."""
    episodes: int
    steps: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    win_rate: float | None
    """Share of episodes won, in [0, 1]."""
    source: str = ""
    """The log that was imported, and its format; empty for play that this library recorded."""
    assumptions: list[str] = dataclasses.field(default_factory=list)
    """What was supplied because the log did not tell it, one sentence each."""
    recipe: dict[str, Any] | None = None
    """What it takes to make the dataset again."""
    checksum: str = ""
    """``sha256:`` and the hash of all arrays (see `docs/datasets.md`); empty in older datasets."""
    agents: tuple[str, ...] | None = None
    """What the log calls the agents, in their order; null where it has no names, as in the three that follow."""
    actions: tuple[str, ...] | None = None
    """What the log calls the actions, from 0 on."""
    features: tuple[str, ...] | None = None
    """What the log calls the features of an observation."""
    state_features: tuple[str, ...] | None = None
    """What the log calls the features of the state."""

    @property
    def names(self) -> Names:
        """The names of agents, actions and features."""
        return Names(self.agents, self.actions, self.features, self.state_features)
