"""Recording: the wrapper behaves as the environment does, and what it writes is what was played."""

import numpy as np
import pytest

import ovmse
from ovmse import envs
from ovmse.collection.record import record
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.envs.pettingzoo import ParallelTeam

pytest.importorskip("pettingzoo")

from support.convoy import HOLD, Convoy  # noqa: E402

pytestmark = pytest.mark.slow


def loop(env, episodes, actions=None, stop_after=None):
    """A user's own loop with PettingZoo's parallel API; everything that the environment returned."""
    seen = []
    for seed in range(episodes):
        observations, infos = env.reset(seed=seed)
        seen.append((observations, infos))
        t = 0
        while env.agents and t != stop_after:
            legal = {"truck": 1, "bike": 2, "van": 2} if actions is None else actions
            found = env.step({agent: legal[agent] for agent in env.agents})
            seen.append(found)
            t += 1
    return seen


def test_a_parallel_environment_behaves_the_same_and_its_play_is_written(tmp_path):
    env = record(Convoy(wins=True), tmp_path / "play", behaviour="by hand", seed=3)
    assert env.possible_agents == ["truck", "bike", "van"] and env.action_space("truck").n == 2
    recorded, plain = loop(env, 3), loop(Convoy(wins=True), 3)
    assert repr(recorded) == repr(plain)
    metadata = env.close()
    dataset = Dataset.open(tmp_path / "play")
    assert dataset.metadata == metadata
    assert (dataset.spec.name, dataset.metadata.behaviour, dataset.metadata.seed) == ("convoy", "by hand", 3)
    assert dataset.length.tolist() == [4, 4, 4] and dataset.won.all() and dataset.spec.episode_limit == 4
    assert dataset.metadata.assumptions == []

    team = ParallelTeam(Convoy(wins=True), name="convoy", version="unknown", episode_limit=4)
    observations, results = [team.reset_host(1)], []
    for t in range(4):
        observation, result = team.step_host(np.array([1 if t < 2 else 0, 1, 2]))
        observations.append(observation)
        results.append(result)
    episode = dataset.episode(1)
    for name in ("obs", "state", "avail"):
        np.testing.assert_array_equal(
            getattr(episode, name), np.stack([getattr(observation, name) for observation in observations])
        )
    np.testing.assert_array_equal(episode.reward, [result.reward for result in results])
    assert episode.terminal.tolist() == [False, False, False, True]


def test_a_cut_is_no_end(tmp_path):
    env = record(Convoy(cut=True), tmp_path / "cut")
    loop(env, 2)
    env.close()
    assert not Dataset.open(tmp_path / "cut").terminal.any()


def test_an_episode_that_is_left_counts_as_cut(tmp_path):
    env = record(Convoy(), tmp_path / "left")
    loop(env, 2, stop_after=1)  # the first is left by a reset, the second by closing
    env.reset(seed=9)
    env.close()
    dataset = Dataset.open(tmp_path / "left")
    assert dataset.length.tolist() == [1, 1] and not dataset.terminal.any()


def test_all_completed_episodes_survive_a_crash(tmp_path):
    env = record(Convoy(), tmp_path / "play")
    loop(env, 2)
    env._writer.stop()  # the process dies here
    with pytest.raises(UserError, match="unfinished dataset"):
        record(Convoy(), tmp_path / "play")
    env = record(Convoy(), tmp_path / "play", resume=True)
    loop(env, 1)
    env.close()
    assert len(Dataset.open(tmp_path / "play").length) == 3


def test_an_illegal_action_is_refused_at_the_end_of_its_episode(tmp_path):
    env = record(Convoy(), tmp_path / "play")
    loop(env, 1)
    with pytest.raises(UserError, match="episode 1, step 0, agent 2: action 1, legal are 0, 2"):
        loop(env, 1, actions={"truck": 0, "bike": 2, "van": 1})
    env.close()
    assert len(Dataset.open(tmp_path / "play").length) == 1


def test_a_host_environment_is_recorded_with_its_own_spec(tmp_path):
    env = record(envs.make("pettingzoo:mpe2.simple_spread_v3", max_cycles=5), tmp_path / "spread")
    observations = [env.reset_host(7)]
    for t in range(5):
        observation, result = env.step_host(np.array([t % 5, 1, 2]))
        observations.append(observation)
    assert result.truncated
    env.close()
    dataset = Dataset.open(tmp_path / "spread")
    dataset.check_env(envs.make("pettingzoo:mpe2.simple_spread_v3", max_cycles=5).spec)
    np.testing.assert_array_equal(dataset.obs, np.stack([observation.obs for observation in observations]))
    assert not dataset.terminal.any()


def test_what_cannot_be_recorded(tmp_path):
    with pytest.raises(UserError, match="object: cannot be recorded; expected a PettingZoo parallel environment"):
        ovmse.record(object(), tmp_path / "x")
    env = record(Convoy(), tmp_path / "play")
    with pytest.raises(UserError, match="Reset the environment first"):
        env._step(np.zeros(3), *ParallelTeam(Convoy(), name="x", version="", episode_limit=4).step_host(HOLD))
    with pytest.raises(UserError, match="no episode was added"):
        env.close()
    assert list(tmp_path.iterdir()) == []
