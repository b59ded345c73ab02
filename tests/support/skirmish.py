"""A stand-in for SMAC's ``StarCraft2Env``: what its ``step`` returns, how it ends and crashes, without the game.

Three marines stand before two enemies of `health` each. Action 0 is no-op (of the dead alone), 1 stops, 2 and 3 shoot
at an enemy that lives. From step 3 on the enemies kill one marine every `pace` steps.
"""

from typing import Any

import numpy as np

N, ENEMIES, ACTIONS = 3, 2, 4


class Skirmish:
    """See above.

    tells_limit: SMAC's ``continuing_episode``. crashes: the numbers of steps, counted since the game was launched, at
    which it dies. leftover: whether the last actions survive ``reset``, as in SMAClite. luck: whether the first health
    of the enemies is drawn by a generator of the game's own, from its launch on.
    """

    def __init__(
        self,
        map_name: str = "3m",
        seed: int | None = None,
        episode_limit: int = 8,
        health: int = 4,
        pace: int = 100,
        tells_limit: bool = True,
        crashes: tuple[int, ...] = (),
        leftover: bool = False,
        luck: bool = False,
    ) -> None:
        print("Version: B75689 (SC2.4.10)")  # as the game does at every launch
        self.map_name, self.episode_limit, self.tells_limit = map_name, episode_limit, tells_limit
        self.health, self.pace, self.crashes, self.leftover = health, pace, crashes, leftover
        self.luck = np.random.default_rng(seed) if luck else None
        self.n_agents, self.force_restarts, self.total_steps = N, 0, 0
        self.last_action = np.zeros((N, ACTIONS), np.float32)
        self.handed: Any = None

    def reset(self) -> Any:
        print("reset")
        self.t, self.alive = 0, np.ones(N, bool)
        first = self.health if self.luck is None else int(self.luck.integers(1, 5))
        self.enemies = np.full(ENEMIES, first)
        if not self.leftover:
            self.last_action = np.zeros((N, ACTIONS), np.float32)
        return self.get_obs(), self.get_state()

    def step(self, actions: Any) -> Any:
        assert all(type(a) is int for a in actions), "SMAC's kin take Python's ints alone"
        self.handed = actions
        self.total_steps += 1
        if self.total_steps in self.crashes:
            self.force_restarts += 1
            return 0, True, {}
        legal = Skirmish.get_avail_actions(self)
        assert all(legal[i][a] for i, a in enumerate(actions)), "Agent cannot perform action"
        self.last_action = np.eye(ACTIONS, dtype=np.float32)[np.array(actions)]
        self.t += 1
        before = self.enemies.sum()
        for a in actions:
            if a >= 2:
                self.enemies[a - 2] = max(0, self.enemies[a - 2] - 1)
        if self.t >= 3 and self.t % self.pace == 0:
            self.alive[np.argmax(self.alive)] = False
        reward, terminated, info = float(before - self.enemies.sum()), False, {"battle_won": False}
        if not self.enemies.any():
            terminated, info["battle_won"], reward = True, True, reward + 10
        elif not self.alive.any():
            terminated = True
        elif self.t >= self.episode_limit:
            terminated = True
            if self.tells_limit:
                info["episode_limit"] = True
        return reward, terminated, info

    def get_obs(self) -> Any:
        return [np.array([self.t, alive, *self.enemies], np.float32) * alive for alive in self.alive]

    def get_state(self) -> Any:
        return np.concatenate([[self.t], self.alive, self.enemies, self.last_action.ravel()]).astype(np.float32)

    def get_avail_actions(self) -> Any:
        return [[0, 1, *map(int, self.enemies > 0)] if alive else [1, 0, 0, 0] for alive in self.alive]

    def get_env_info(self) -> Any:
        return {"state_shape": 1 + N + ENEMIES + N * ACTIONS, "obs_shape": 2 + ENEMIES, "n_actions": ACTIONS,
                "n_agents": N, "episode_limit": self.episode_limit}  # fmt: skip

    def close(self) -> None:
        self.closed = True
