"""The PettingZoo adapter: padding, masks, agents that leave, endings, rewards, and mpe2's simple_spread."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from support.convoy import HOLD, Convoy

from ovmse import envs
from ovmse.core.errors import UserError

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("pettingzoo")


from ovmse.envs.pettingzoo import ParallelTeam  # noqa: E402

spaces = gymnasium.spaces


class ConvoyWithState(Convoy):
    def state(self):
        return np.array([[self.t, 1], [2, 3]])


def team(env=None, **settings):
    return ParallelTeam(env or Convoy(), name="convoy", version="test 1", **{"episode_limit": 10} | settings)


def test_unequal_agents_are_padded_to_one_shape():
    env = team()
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.obs_size, env.spec.state_size) == (3, 4, 4, 12)
    observation = env.reset_host(0)
    assert observation.obs[0, 0] > 0 and not observation.obs[0, 1:].any()
    assert observation.obs[2].tolist() == [1, 0, 0, 0]  # symbol 0, one-hot
    assert observation.avail.tolist() == [[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0]]
    np.testing.assert_array_equal(observation.state, observation.obs.ravel())


def test_the_spec_tells_names_and_kinds_of_unlike_agents():
    assert team().spec.agents == ("truck", "bike", "van")
    assert team().spec.kinds == (0, 1, 2)


def test_actions_reach_the_environment_in_its_own_numbering():
    convoy = Convoy()
    env = team(convoy)
    env.reset_host(0)
    env.step_host(np.array([1, 3, 2]))
    assert convoy.last == {"truck": 1, "bike": 4, "van": 2}


def test_an_agent_that_has_left_sees_nothing_and_only_action_0_is_legal():
    convoy = Convoy()
    env = team(convoy)
    env.reset_host(0)
    env.step_host(HOLD)
    observation, result = env.step_host(HOLD)
    assert not observation.obs[0].any() and observation.avail[0].tolist() == [1, 0, 0, 0]
    assert observation.obs[1].any() and observation.avail[1].tolist() == [0, 1, 1, 1]
    assert result.reward == pytest.approx((1 + 2 + 3) / 3)
    _, result = env.step_host(HOLD)
    assert set(convoy.last) == {"bike", "van"}
    assert result.reward == pytest.approx((2 + 3) / 3)  # over all three agents: leaving gains nothing
    assert not result.terminal and not result.truncated


@pytest.mark.parametrize(("cut", "terminal", "truncated"), [(False, True, False), (True, False, True)])
def test_the_last_step_is_terminal_or_truncated(cut, terminal, truncated):
    env = team(Convoy(cut=cut))
    env.reset_host(0)
    results = [env.step_host(HOLD) for _ in range(4)]
    assert [bool(o.terminal) for _, o in results] == [False] * 3 + [terminal]
    assert [bool(o.truncated) for _, o in results] == [False] * 3 + [truncated]
    last = results[-1][0]
    assert last.obs[1].any() == truncated  # what was left to see when the time was up


def test_the_adapter_keeps_a_time_limit_for_environments_without_one():
    env = team(Convoy(length=100), episode_limit=3)
    env.reset_host(0)
    ends = [env.step_host(HOLD)[1] for _ in range(3)]
    assert [bool(o.truncated) for o in ends] == [False, False, True]
    assert not any(o.terminal for o in ends)


def test_reward_sum_and_state_of_the_environment():
    env = team(ConvoyWithState(), reward="sum")
    assert env.spec.state_size == 4
    env.reset_host(0)
    observation, result = env.step_host(HOLD)
    assert observation.state.tolist() == [1, 1, 2, 3]
    assert result.reward == 6


def test_a_state_that_cannot_be_told_once_agents_have_left_is_zeros():
    """As in magent2, where all of a kind may be gone."""

    class Fails(ConvoyWithState):
        def state(self):
            if "truck" not in self.agents:
                raise ValueError("not enough values to unpack")
            return super().state()

    env = team(Fails())
    env.reset_host(0)
    assert env.step_host(HOLD)[0].state.any()
    assert env.step_host(HOLD)[0].state.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("win_key", [None, "won"])
def test_wins_come_from_the_infos(win_key):
    env = team(Convoy(wins=True), win_key=win_key)
    assert env.spec.has_win and not team().spec.has_win
    env.reset_host(0)
    assert [bool(env.step_host(HOLD)[1].won) for _ in range(4)] == [False, False, False, True]


def test_illegal_actions_are_named():
    env = team()
    env.reset_host(0)
    for action in ([0, 0, 0], [2, 1, 0], [0, 4, 0], [0, 1, -1]):
        with pytest.raises(UserError, match=r"convoy, step 0: action -?\d of agent \d \(\w+\) is illegal"):
            env.step_host(np.array(action))


@pytest.mark.parametrize("env", [Convoy(), Convoy(cut=True), ConvoyWithState(), Convoy(wins=True), Convoy(length=10)])
def test_check_passes_on_adapted_environments(env):
    envs.check(team(env))


def test_continuous_actions_are_refused():
    with pytest.raises(UserError, match=r"agent agent_0 has the action space Box.*only Discrete"):
        envs.make("pettingzoo:mpe2.simple_spread_v3", continuous_actions=True)


def test_a_module_in_the_current_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("convoys_here.py").write_text("from support.convoy import Convoy as parallel_env\n")
    assert envs.make("pettingzoo:convoys_here", episode_limit=5).spec.episode_limit == 5


def test_a_library_that_needs_no_trust_is_not_looked_for_in_the_current_directory(tmp_path, monkeypatch):
    """Else a stranger's folder could hold a `mpe2` that a run in it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    Path("mpe2").mkdir()
    Path("mpe2/stranger.py").write_text("raise RuntimeError('it ran')\n")
    with pytest.raises(UserError, match="unknown PettingZoo module|needs the package"):
        envs.make("pettingzoo:mpe2.stranger")
    assert str(tmp_path) not in sys.path


def test_modules_tell_their_settings_or_need_a_limit(monkeypatch):
    module = types.ModuleType("convoys")
    module.parallel_env = Convoy
    monkeypatch.setitem(sys.modules, "convoys", module)
    with pytest.raises(UserError, match="has no setting max_cycles, so it needs the setting episode_limit"):
        envs.make("pettingzoo:convoys")
    with pytest.raises(UserError, match="unknown setting of pettingzoo:convoys 'lenght'. Did you mean 'length'"):
        envs.make("pettingzoo:convoys", lenght=3)
    with pytest.raises(UserError, match="'length' of pettingzoo:convoys must be a JSON value"):
        envs.make("pettingzoo:convoys", length=print)
    env = envs.make("pettingzoo:convoys", length=3, episode_limit=5, reward="sum")
    assert env.spec.settings == {
        "length": 3,
        "cut": False,
        "wins": False,
        "reward": "sum",
        "episode_limit": 5,
        "win_key": None,
    }


def test_simple_spread():
    pytest.importorskip("mpe2")
    env = envs.make("pettingzoo:mpe2.simple_spread_v3", N=2, max_cycles=7, local_ratio=0)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size) == (2, 5, 12, 24)
    assert spec.episode_limit == spec.settings["max_cycles"] == 7
    assert spec.version.startswith("mpe2 ") and not spec.has_win
    envs.check(env)
    np.testing.assert_array_equal(env.reset_host(3).obs, env.reset_host(3).obs)
    assert (env.reset_host(3).obs != env.reset_host(4).obs).any()
    assert envs.make(spec.name, **spec.settings).spec == spec


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pettingzoo:mpe2.simple_spred_v3", {}, "Did you mean 'pettingzoo:mpe2.simple_spread_v3'"),
        ("pettingzoo:mpe2.simple_spread_v3", {"max_cycle": 3}, "Did you mean 'max_cycles'"),
        ("pettingzoo:mpe2.simple_spread_v3", {"local_ratio": 7.0}, "could not be made with the settings"),
        ("pettingzoo:mpe2.simple_spread_v3", {"reward": "max"}, "unknown reward 'max'"),
        ("pettingzoo:json", {}, "the module has no parallel_env"),
    ],
)
def test_bad_names_and_settings_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **options)
