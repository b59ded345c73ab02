"""SUMO's signals as a team: sizes, names, reward and measures, seeds, faults, and one simulation in a process."""

import numpy as np
import pytest

from ovmse import envs
from ovmse.core.errors import UserError
from ovmse.envs.process import ProcessEnv
from ovmse.envs.settings import make_by_options

pytest.importorskip("libsumo", reason="ovmse[sumo] is not installed")
pytest.importorskip("sumo_rl", reason="ovmse[sumo] is not installed")

SHORT = {"seconds": 120, "begin": 25_500}


@pytest.fixture
def signals():
    """Makes environments, and closes them: a process has one simulation at a time."""
    made = []

    def make(name="sumo:cologne3", **settings):
        made.append(envs.make(name, **(SHORT | settings)))
        return made[-1]

    yield make
    for env in made:
        env.close()


def play(env, choose, seed=0):
    """The observations and rewards of an episode."""
    observations, rewards, over = [env.reset_host(seed)], [], False
    while not over:
        observation, result = env.step_host(choose(observations[-1]))
        observations.append(observation)
        rewards.append(float(result.reward))
        over = bool(result.truncated)
        assert not result.terminal
    return observations, rewards


def first_legal(observation):
    return observation.avail.argmax(axis=1)


def last_legal(observation):
    return observation.avail.shape[1] - 1 - observation.avail[:, ::-1].argmax(axis=1)


def test_unlike_signals_are_a_team_that_keeps_the_protocol(signals):
    env = signals()
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit, spec.has_win) == (3, 4, 12, False)
    assert spec.kinds == (0, 1, 2) and spec.agents[:2] == ("360082", "360086")
    first = env.reset_host(0)
    assert first.avail.sum(axis=1).tolist() == [3, 4, 4]  # greens of each signal's plan
    assert spec.version.startswith("libsumo ") and "sumo-rl" in spec.version
    envs.check(env, episodes=1)
    env.close()
    assert signals(**spec.settings).spec == spec


def test_actions_and_features_have_names_and_mean_what_those_say(signals):
    env = signals()
    names = env.names
    assert len(names["features"]) == env.spec.obs_size and len(names["state_features"]) == env.spec.state_size
    assert names["actions"] == ("green_0", "green_1", "green_2", "green_3")
    env.reset_host(0)
    observation, _ = env.step_host(np.array([1, 2, 0]))
    seen = [dict(zip(names["features"], row.tolist(), strict=True)) for row in observation.obs]
    assert [row["minutes_since_change"] for row in seen] == pytest.approx([1 / 6, 1 / 6, 1 / 6 + 8 / 60])
    assert [row["green_1"] for row in seen] == [1, 0, 0] and seen[1]["green_2"] == 1
    assert seen[0]["minutes_planned"] == pytest.approx(9 / 60)  # 6 s of green and 3 of yellow
    assert observation.state[-2] == pytest.approx(1 / 12)


def test_the_return_is_what_all_cars_waited_those_that_find_no_room_included(signals):
    env = signals(demand=3.0)
    _, rewards = play(env, first_legal)  # never a change: the other roads fill up
    found = env.episode_measures
    assert -1000 * sum(rewards) == pytest.approx(found["seconds_waited_per_car"] * found["cars"], rel=1e-4)
    assert found["backlog"] > 0 and found["cars"] >= found["cars_arrived"] + found["backlog"]


def test_a_seed_gives_an_episode_and_demand_gives_cars(signals):
    env = signals(depart_offset_seconds=60)
    one, again, other = (play(env, last_legal, seed) for seed in (1, 1, 2))
    assert np.array_equal(one[0][-1].state, again[0][-1].state) and one[1] == again[1] != other[1]
    few = env.episode_measures["cars"]
    env.close()
    env = signals(demand=2.0, depart_offset_seconds=60)
    play(env, last_legal, 2)
    assert env.episode_measures["cars"] > 1.5 * few


def test_a_green_lasts_its_least_time(signals):
    env = signals(decision_seconds=5)
    env.reset_host(0)
    observation, _ = env.step_host(np.array([1, 0, 0]))
    assert observation.avail[0].tolist() == [False, True, False, False]  # 5 of 8 s
    with pytest.raises(UserError, match=r"action 0 of agent 0 \(360082\) is illegal; legal: \[1\]"):
        env.step_host(np.array([0, 0, 0]))
    observation, _ = env.step_host(np.array([1, 0, 0]))
    assert observation.avail[0].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sumo:cologne4", {}, "unknown network of SUMO 'cologne4'.*cologne3.*sumocfg of your own"),
        ("sumo:town.sumocfg", {}, "there is no such file"),
        ("sumo:cologne3", {"seconds": 125}, "multiple of decision_seconds .10.; got 125"),
        ("sumo:cologne3", {"yellow_seconds": 10}, "more than yellow_seconds .10.; got 10"),
        ("sumo:cologne3", {"demand": 0.0}, "demand must be greater than 0"),
        ("sumo:cologne3", {"min_green_seconds": -1}, "min_green_seconds must be 0 or more; got -1"),
    ],
)
def test_what_cannot_be_used_is_named(signals, name, settings, message):
    with pytest.raises(UserError, match=message):
        signals(name, **settings)


def test_a_broken_network_of_ones_own_is_refused_and_the_next_one_starts(signals, tmp_path):
    (tmp_path / "town.sumocfg").write_text("<configuration><input><net-file value='none'/></input></configuration>")
    with pytest.raises(UserError, match="SUMO does not start: .*none.*not accessible"):
        signals(f"sumo:{tmp_path / 'town.sumocfg'}")
    assert signals().spec.n_agents == 3


def test_a_process_has_one_simulation_and_the_command_line_gives_each_its_own(signals):
    env = signals()
    _, rewards = play(env, last_legal)
    with pytest.raises(UserError, match="this process has a simulation already.*make_by_options"):
        signals()
    assert play(env, last_legal)[1] == rewards  # the first one is as it was
    beside = make_by_options("sumo:cologne3", tuple(f"{key}={value}" for key, value in SHORT.items()))
    try:
        assert isinstance(beside, ProcessEnv) and beside.spec == env.spec
        assert {key: tuple(value) for key, value in beside.names.items()} == env.names
        assert play(beside, last_legal)[1] == rewards
    finally:
        beside.close()
    env.close()
    with pytest.raises(UserError, match="this environment is closed"):
        env.reset_host(0)
