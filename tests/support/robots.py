"""The robots of `support.fleet` as an environment: the truck has no third sensor, and never lifts."""

import numpy as np

from ovmse.core.padding import own_actions, padded
from ovmse.core.types import EnvSpec, Observation, StepResult


class Robots:
    """Two robots that see numbers drawn at random for six steps, each rewarded for every one that drives."""

    def __init__(self):
        self.spec = EnvSpec("support.robots:Robots", "1", {}, 2, 3, 3, 6, 6, False)

    def reset_host(self, seed):
        self.rng, self.t = np.random.default_rng(seed), 0
        return self.view()

    def view(self):
        obs = padded([self.rng.normal(size=size).astype(np.float32) for size in (3, 2)], 3)
        return Observation(obs, obs.ravel(), own_actions([range(3), range(2)], 3))

    def step_host(self, action):
        self.t += 1
        over = np.bool_(self.t == self.spec.episode_limit)
        return self.view(), StepResult(np.float32((action == 1).sum()), np.bool_(False), over, np.bool_(False))
