"""A small environment on the host that tells measures of its own, can be slow, and can die."""

import os
import time
from pathlib import Path

import numpy as np

from ovmse.core.types import EnvSpec, Observation, StepResult


class Junction:
    """Two agents wait (action 0) or go; they collide where both go at once. Every other seed tells no collisions.

    sleep: seconds that a step takes. dies: where each episode leaves a file, with its seed in the name, when it ends
    the process in its second step; so each dies once.
    """

    def __init__(self, length=4, sleep=0.0, dies=None):
        self.sleep, self.dies = sleep, dies
        settings = {"length": length, "sleep": sleep, "dies": dies}
        self.spec = EnvSpec("support.junction:Junction", "1", settings, 2, 3, 3, 2, length, True)

    def reset_host(self, seed):
        self.seed, self.t, self.waited, self.collisions = seed, 0, 0, 0
        self.rng = np.random.default_rng(seed)
        return self.seen()

    def seen(self):
        obs = np.float32([[i, self.t / self.spec.episode_limit, self.rng.random()] for i in range(2)])
        return Observation(obs, np.float32([self.t, self.rng.random()]), np.ones((2, 3), bool))

    def step_host(self, action):
        time.sleep(self.sleep)
        self.t += 1
        if self.dies is not None and self.t == 2 and not (mark := Path(f"{self.dies}-{self.seed}")).exists():
            mark.touch()
            os._exit(3)
        self.waited += int((action == 0).sum())
        self.collisions += int((action > 0).all())
        late = self.t == self.spec.episode_limit
        if late:
            told = {"waiting_time": self.waited, "collisions": self.collisions}
            self.episode_measures = told if self.seed % 2 else {"waiting_time": self.waited}
        reward = float((action > 0).sum() - 2 * (action > 0).all())
        return self.seen(), StepResult(np.float32(reward), np.bool_(False), np.bool_(late), np.bool_(late))
