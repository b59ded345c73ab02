"""Collecting: what is refused before anything is trained, and what a team is judged by."""

import jax
import numpy as np
import pytest

from ovmse import envs
from ovmse.collection.behaviour import Behaviour, behaviour_config, halfway, judged
from ovmse.collection.collect import collect
from ovmse.collection.settings import Collecting
from ovmse.core.errors import UserError
from ovmse.learning import learner
from ovmse.training import start

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


def test_a_team_is_judged_on_episodes_that_neither_chose_it_nor_are_recorded():
    """Keys of a seed: training's evaluations (`ovmse.training.start`) fold in 1, recordings of two teams 2 and 3."""
    seen = []

    def collect_episodes(actors, turn, epsilon):
        seen.append(jax.random.key_data(actors[0].key)[0].tolist())
        raise KeyboardInterrupt

    config = behaviour_config(Collecting(seed=7))
    team = learner.init(config.learner, envs.make("matrix:two_step").spec, jax.random.key(0)).team
    with pytest.raises(KeyboardInterrupt):
        judged(config, collect_episodes, Behaviour(team, 0, 0.0), "return")
    keys = start.seed_keys(config)
    used = [jax.random.fold_in(keys[0], number) for number in (1, 2, 3)]
    assert seen and seen[0] not in [jax.random.key_data(key).tolist() for key in used]


@pytest.mark.parametrize(
    ("scores", "level", "expected"),
    [
        ([0.0, 0.28, 0.15, 0.06, 0.22, 0.36, 0.43], 0.215, 4),  # 0.28 was luck: the next is below
        ([0.0, 0.1, 0.2, 0.4, 0.5, 1.0], 0.5, 4),
        ([0.0, 0.1, 0.45, 0.9, 1.0], 0.5, 2),  # nearer than the first that is above
        ([0.0, 0.1, 1.0], 0.5, 1),
        ([0.0, 1.0], 0.5, 1),  # the best one, where there is no other
        ([0.9, 0.1, 1.0], 0.5, 1),  # never the untrained first
    ],
)
def test_medium_is_where_the_run_comes_to_half_of_the_best_to_stay(scores, level, expected):
    assert halfway(np.array(scores), level) == expected
