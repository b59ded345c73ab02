"""A team environment as Gymnasium's users write them, like level-based foraging and the robot warehouse."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Errands(gymnasium.Env):
    """Two runners on a line: one sees 2 numbers and has 2 actions, the other 3 and 3; an action moves by that many.

    It ends when both have passed `goal` or at `max_steps`, and says ``terminated`` of either.

    leftover: whether places survive ``reset``, as positions do in level-based foraging. masked: whether the info has
    masks and a state. together: whether one reward stands for the team.
    """

    def __init__(self, goal=4, max_steps=10, leftover=False, masked=False, together=False, render_mode=None):
        self.goal, self.max_steps, self.leftover, self.masked, self.together = (
            goal, max_steps, leftover, masked, together,
        )  # fmt: skip
        self.action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
        self.observation_space = spaces.Tuple([spaces.Box(-9, 99, (2,)), spaces.Box(-9, 99, (3,))])
        self.place = np.zeros(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, start = 0, self.np_random.integers(0, 2, 2)
        self.place = start + (self.place if self.leftover else 0)
        return self._seen(), self._info()

    def step(self, actions):
        assert all(type(a) is int for a in actions)
        self.t += 1
        self.place = self.place + actions
        rewards = [float(a) for a in actions]
        over = bool((self.place >= self.goal).all()) or self.t >= self.max_steps
        return self._seen(), sum(rewards) if self.together else rewards, over, False, self._info()

    def _seen(self):
        return (
            np.array([*self.place], np.float32),
            np.array([*self.place, self.t], np.float32),
        )

    def _info(self):
        return {"avail_actions": [[1, 0, 0], [1, 1, 0]], "state": [7.0, self.t]} if self.masked else {}


gymnasium.register("Errands-v0", entry_point=Errands)
gymnasium.register("Limited-v0", entry_point=Errands, max_episode_steps=3, kwargs={"max_steps": 99})
gymnasium.register("Endless-v0", entry_point=lambda: Errands(max_steps=10**9))
