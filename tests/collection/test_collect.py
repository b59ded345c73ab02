"""Collecting: what is refused before anything is trained."""

import pytest

from ovmse.collection.collect import collect
from ovmse.collection.settings import Collecting
from ovmse.core.errors import UserError

ENDLESS = """
import numpy as np
from ovmse.core.types import EnvSpec, Observation, StepResult

class Endless:
    spec = EnvSpec("endless", "1", {}, 2, 3, 4, 5, 4, False)

    def reset_host(self, seed):
        return Observation(np.zeros((2, 4), np.float32), np.zeros(5, np.float32), np.ones((2, 3), bool))

    def step_host(self, action):
        return self.reset_host(0), StepResult(1.0, False, False, False)
"""


def test_an_environment_is_checked_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "endless_game.py").write_text(ENDLESS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="check of endless: .*the episode goes on after spec.episode_limit = 4 steps"):
        collect(Collecting(env="endless_game:Endless", quality="random", episodes=4, out=tmp_path / "made"))
    assert not (tmp_path / "made").exists()
