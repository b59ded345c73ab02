"""magent2's battle as a team against a rule: red is the team, and blue attacks by `world_rules.attack`.

ovmse train --method scratch --env pettingzoo:one_side --env-settings map_size=12 --env-settings max_cycles=60
"""

from typing import Any

import numpy as np
from magent2.environments import battle_v4
from world_rules import attack


def parallel_env(map_size: int = 12, max_cycles: int = 60, epsilon: float = 0.5) -> "OneSide":
    """A battle whose blue agents act at random in a share `epsilon` of their steps."""
    return OneSide(battle_v4.parallel_env(map_size=map_size, max_cycles=max_cycles), epsilon)


class OneSide:
    """A battle in the shape of PettingZoo's parallel environments, whose agents are the red ones; won when no blue one
    is left."""

    def __init__(self, battle: Any, epsilon: float) -> None:
        self._battle, self._epsilon = battle, epsilon
        self.possible_agents = [agent for agent in battle.possible_agents if agent.startswith("red")]
        self.observation_space, self.action_space, self.state = (
            battle.observation_space,
            battle.action_space,
            battle.state,
        )

    @property
    def agents(self) -> list[str]:
        """The red agents that live, while the battle goes on."""
        return [agent for agent in self._battle.agents if agent in self.possible_agents]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a battle."""
        self._rng = np.random.default_rng(seed)
        self._seen, infos = self._battle.reset(seed=seed)
        return self._ours(self._seen), self._ours(infos)

    def step(self, moves: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """Act jointly; blue acts by its rule."""
        blue = [agent for agent in self._battle.agents if agent not in self.possible_agents]
        theirs = {
            agent: int(self._rng.integers(21)) if self._rng.random() < self._epsilon else attack(self._seen[agent], -2)
            for agent in blue
        }
        self._seen, *results, infos = self._battle.step({**moves, **theirs})
        won = self._battle.env.get_num(self._battle.handles[1]) == 0  # all terminate alike, whoever is left
        told = {agent: {"won": won} for agent in self._ours(infos)}
        return self._ours(self._seen), *map(self._ours, results), told

    def close(self) -> None:
        """Close the battle."""
        self._battle.close()

    def _ours(self, values: dict[str, Any]) -> dict[str, Any]:
        return {agent: value for agent, value in values.items() if agent in self.possible_agents}
