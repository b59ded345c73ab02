"""The arrays that every part exchanges, and the axis letters, defined once.

Axes: ``T`` steps of an episode, ``N`` agents, ``A`` actions of an agent, ``O`` observation features,
``S`` state features. ``T+1`` marks arrays that also hold the row after the last step.
"""

from __future__ import annotations  # unevaluated, so that pages and datasets do without the half second of JAX

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


class EnvSpec(NamedTuple):
    """What a learner must know of an environment.

    name: what `ovmse.envs.make` was given, such as ``smax:3m``.
    version: the implementation and its version, such as ``jaxmarl 0.2.0``.
    settings: the options that the environment was made with (JSON values only).
    n_agents, n_actions, obs_size, state_size: N, A, O, S.
    episode_limit: the most steps of one episode (T).
    has_win: whether an episode can be won; where not, a win rate means nothing.
    agents: what the agents are called, in their order; empty where they have no names.
    kinds: the kind of each agent, from 0: agents with the same features and actions are of a kind; empty where all are.
    """

    name: str
    version: str
    settings: dict[str, Any]
    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    episode_limit: int
    has_win: bool
    agents: tuple[str, ...] = ()
    kinds: tuple[int, ...] = ()

    def described(self) -> dict[str, Any]:
        """As JSON, without what is not told."""
        return {name: value for name, value in self._asdict().items() if value != ()}


class Observation(NamedTuple):
    """What the team sees at one row: observations, the global state, and the legal actions."""

    obs: Float[Array, "N O"]
    state: Float[Array, " S"]
    avail: Bool[Array, "N A"]


class StepResult(NamedTuple):
    """What one joint action led to.

    terminal: the action ended the task; truncated: a time limit cut the episode (never both).
    won: the episode ended in a win with this step.
    """

    reward: Float[Array, ""]
    terminal: Bool[Array, ""]
    truncated: Bool[Array, ""]
    won: Bool[Array, ""]


class Episode(NamedTuple):
    """One episode, padded to T steps; or several laid end to end. Action t leads from row t to row t+1.

    obs, state, avail: T+1 rows; row ``length`` is the last real one.
    terminal: true at the step whose action ended the task; a time limit is not terminal.
    valid: true at real steps; everything else is padding. At the row after a step that is not valid another episode
        may begin.
    """

    obs: Float[Array, "T1 N O"]
    state: Float[Array, "T1 S"]
    avail: Bool[Array, "T1 N A"]
    action: Int[Array, "T N"]
    reward: Float[Array, " T"]
    terminal: Bool[Array, " T"]
    valid: Bool[Array, " T"]


EnvState = Any  # a tree of arrays: whatever an environment carries from step to step


class Flat(TypedDict):
    """The arrays of a dataset, by field.

    obs (R, N, O) and state (R, S) float; avail (R, N, A) bool; action (M, N) int; reward (M,) float;
    terminal (M,) bool; length (E,) int, the steps of every episode; won (E,) bool.
    """

    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    length: np.ndarray
    won: np.ndarray


def action_dtype(n_actions: int) -> np.dtype:
    """The smallest dtype of uint8, uint16 and int32 that holds every action."""
    return np.dtype(np.uint8 if n_actions <= 2**8 else np.uint16 if n_actions <= 2**16 else np.int32)
