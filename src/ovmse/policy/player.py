"""Whole episodes, played with a team in NumPy alone by a process that has an environment and no JAX."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ovmse.policy.act import Policy, TeamMemory

Rule = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]
"""(random numbers, scores [N, A], legal actions [N, A], ε) → actions [N]."""


class Player:
    """Plays with the team that it was told of last."""

    def __init__(self) -> None:
        self._team: Policy | None = None

    def play(
        self, env: Any, about: dict[str, Any], arrays: dict[str, np.ndarray], alive: Callable[[], None]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Play an episode.

        Args:
            env: an environment on the host (``reset_host``, ``step_host``, ``episode_measures``).
            about: the ``seed`` of the episode, the ``key`` of what is drawn in it (two numbers), the ``rule`` by which
                the team acts, one of `RULES`, with its ``epsilon``, and the team's ``contract``.
            arrays: the team's weights; none: it is that of the last episode.
            alive: called after every step.

        Returns:
            Whether it was ``won`` and its ``measures``; and the arrays of `ovmse.core.types.Episode` of its T steps,
            without padding.
        """
        if arrays or self._team is None:
            self._team = Policy(about["contract"], arrays)
        team, spec, rule = self._team, env.spec, RULES[about["rule"]]
        random = np.random.Generator(np.random.Philox(key=np.array(about["key"], np.uint64)))
        n, rows, won = spec.n_agents, [_row(env.reset_host(about["seed"]))], False
        steps: list[tuple[np.ndarray, float, bool]] = []
        memory = TeamMemory(np.zeros((n, team.sizes["hidden"]), np.float32), np.full(n, -1), np.zeros((), int))
        for _ in range(spec.episode_limit):
            obs, _, legal = rows[-1]
            memory, scores, _ = team.step(obs, memory)
            action = rule(random, scores, legal, about["epsilon"])
            memory = memory._replace(last_action=action)
            seen, result = env.step_host(action.astype(np.int32))
            rows.append(_row(seen))
            steps.append((action, float(result.reward), bool(result.terminal)))
            won = won or bool(result.won)
            alive()
            if result.terminal or result.truncated:
                break
        found = zip(("obs", "state", "avail"), zip(*rows, strict=True), strict=True)
        taken = zip(
            ("action", "reward", "terminal"), zip(*steps, strict=True), (np.int32, np.float32, bool), strict=True
        )
        episode = {name: np.stack(values) for name, values in found}
        episode |= {name: np.array(values, dtype) for name, values, dtype in taken}
        return {"won": won, "measures": env.episode_measures}, episode


def _row(seen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copies of what the team sees: an environment may use its arrays again."""
    return np.array(seen.obs, np.float32), np.array(seen.state, np.float32), np.array(seen.avail, bool)


def greedy(scores: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """Each agent's legal action of the highest score."""
    return np.where(legal, scores, -np.inf).argmax(-1)


def random_legal(random: np.random.Generator, legal: np.ndarray) -> np.ndarray:
    """A uniformly random legal action for each agent."""
    return np.where(legal, random.random(legal.shape), -1.0).argmax(-1)


def epsilon_greedy(random: np.random.Generator, scores: np.ndarray, legal: np.ndarray, epsilon: float) -> np.ndarray:
    """Each agent on its own acts at random with probability ε."""
    turn = random.random(len(scores)) < epsilon
    return np.where(turn, random_legal(random, legal), greedy(scores, legal))


def sequential(random: np.random.Generator, scores: np.ndarray, legal: np.ndarray, epsilon: float) -> np.ndarray:
    """With probability ε one agent, drawn uniformly, acts at random (Sequential Exploration)."""
    turn = (np.arange(len(scores)) == random.integers(len(scores))) & (random.random() < epsilon)
    return np.where(turn, random_legal(random, legal), greedy(scores, legal))


def sample(random: np.random.Generator, scores: np.ndarray, legal: np.ndarray, epsilon: float) -> np.ndarray:
    """Each agent draws from the softmax of its scores over its legal actions: the largest after Gumbel noise."""
    return greedy(scores + random.gumbel(size=scores.shape), legal)


RULES: dict[str, Rule] = {"epsilon_greedy": epsilon_greedy, "sequential": sequential, "sample": sample}
"""The formulas of `ovmse.core.action_selection`, in NumPy."""
