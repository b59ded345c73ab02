"""An environment on the host that waits: what a slow simulator is to ovmse, with nothing else in it."""

import time

import numpy as np

from ovmse.core.types import EnvSpec, Observation, StepResult


class Sleeper:
    """Three agents with 10 features and 6 actions each; every step takes so many seconds."""

    def __init__(self, seconds: float = 0.005, length: int = 64) -> None:
        settings = {"seconds": seconds, "length": length}
        self.spec = EnvSpec("benchmarks.sleeper:Sleeper", "1", settings, 3, 6, 10, 12, length, False)
        self._seconds = seconds

    def reset_host(self, seed: int) -> Observation:
        """Start an episode."""
        self._t, self._random = 0, np.random.default_rng(seed)
        return self._seen()

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Wait; agents earn by choosing action 0."""
        time.sleep(self._seconds)
        self._t += 1
        reward, late = np.float32((action == 0).mean()), np.bool_(self._t == self.spec.episode_limit)
        return self._seen(), StepResult(reward, np.bool_(False), late, np.bool_(False))  # type: ignore[arg-type]

    def _seen(self) -> Observation:
        draw = self._random.random
        observation = draw((3, 10), np.float32), draw(12, np.float32), np.ones((3, 6), bool)
        return Observation(*observation)  # type: ignore[arg-type]
