"""A trial episode: what can't be asked of somebody else's environment, only seen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.envs.protocol import HostEnvironment

STEPS = 200  # at most, of an episode


class Crashed(Exception):
    """The game behind an environment died in an episode; what was played of it is worth nothing."""


class Habits(NamedTuple):
    """What an environment is like.

    fresh: something survives ``reset``, so it has to be made anew for every episode. repeatable: equal seeds give equal
    episodes. has_win: its infos tell of wins. talks: its infos tell something, so an empty one at the end is a crash.
    """

    fresh: bool
    repeatable: bool
    has_win: bool
    talks: bool


def play(
    env: HostEnvironment, seed: int = 0, actions: Sequence[np.ndarray] = ()
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Play an episode, by these actions or at random, up to its end, a crash, or `STEPS`.

    Returns:
        The numbers of every row and step in the order in which they came, and the actions.
    """
    rng, played = np.random.default_rng(seed), list[np.ndarray]()
    observation = env.reset_host(seed)
    seen = [np.asarray(x) for x in observation]
    for t in range(min(env.spec.episode_limit, STEPS, len(actions) or STEPS)):
        played.append(actions[t] if actions else _any_legal(rng, observation.avail))
        try:
            observation, result = env.step_host(played[-1])
        except UserError:
            if not actions:
                raise
            break  # what was legal in the first episode is not in this one
        except Exception:
            break  # it crashed, or failed as it may do later, where that is counted
        seen += [np.asarray(x) for x in (*observation, *result)]
        if result.terminal or result.truncated:
            break
    return seen, played


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    """Whether two episodes agree in every number."""
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def _any_legal(rng: np.random.Generator, avail: Any) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(legal)) if legal.any() else 0 for legal in np.asarray(avail)], np.int32)
