"""The PettingZoo adapter: padding, masks, agents that leave, endings, rewards, and mpe2's simple_spread."""

import sys
import types

import numpy as np
import pytest

from ovmse import envs
from ovmse.errors import UserError

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("pettingzoo")

from pettingzoo import ParallelEnv  # noqa: E402

from ovmse.envs.pettingzoo import ParallelTeam  # noqa: E402

spaces = gymnasium.spaces


class Convoy(ParallelEnv):
    """Three unequal agents; the truck leaves after 2 steps, the others end, or are cut off, after `length`.

    The truck has 2 actions and sees 1 number; the bike has 4 actions from 1 on and a mask that forbids the
    first; the van sees one of 3 symbols and its mask comes with the observation.
    """

    metadata = {"name": "convoy"}
    possible_agents = ["truck", "bike", "van"]

    def __init__(self, length=4, cut=False, wins=False):
        self.length, self.cut, self.wins = length, cut, wins

    def observation_space(self, agent):
        return {
            "truck": spaces.Box(-1, 1, (1,)),
            "bike": spaces.Box(-1, 1, (2, 2)),
            "van": spaces.Dict({"observation": spaces.Discrete(3), "action_mask": spaces.MultiBinary(3)}),
        }[agent]

    def action_space(self, agent):
        return {"truck": spaces.Discrete(2), "bike": spaces.Discrete(4, start=1), "van": spaces.Discrete(3)}[agent]

    def reset(self, seed=None, options=None):
        self.rng, self.t, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self.observations(), self.infos()

    def observations(self):
        seen = {
            "truck": self.rng.random(1, np.float32),
            "bike": self.rng.random((2, 2), np.float32),
            "van": {"observation": self.t % 3, "action_mask": np.array([1, 0, 1], np.int8)},
        }
        return {agent: seen[agent] for agent in self.agents}

    def infos(self):
        won = {"won": self.t == self.length} if self.wins else {}
        masks = {"bike": {"action_mask": np.array([0, 1, 1, 1], np.int8)}}
        return {agent: {**won, **masks.get(agent, {})} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.last, self.t = actions, self.t + 1
        over = self.t == self.length
        observations, infos = self.observations(), self.infos()
        rewards = {agent: float(1 + self.possible_agents.index(agent)) for agent in self.agents}
        gone = {agent: over or (agent == "truck" and self.t == 2) for agent in self.agents}
        cut = {agent: gone[agent] and self.cut and agent != "truck" for agent in self.agents}
        terminated = {agent: gone[agent] and not cut[agent] for agent in self.agents}
        self.agents = [agent for agent in self.agents if not gone[agent]]
        return observations, rewards, terminated, cut, infos


class ConvoyWithState(Convoy):
    def state(self):
        return np.array([[self.t, 1], [2, 3]])


def team(env=None, **settings):
    return ParallelTeam(env or Convoy(), name="convoy", version="test 1", **{"episode_limit": 10} | settings)


HOLD = np.array([0, 1, 0])  # legal at every step


def test_unequal_agents_are_padded_to_one_shape():
    env = team()
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.obs_size, env.spec.state_size) == (3, 4, 4, 12)
    view = env.reset_host(0)
    assert view.obs[0, 0] > 0 and not view.obs[0, 1:].any()
    assert view.obs[2].tolist() == [1, 0, 0, 0]  # symbol 0, one-hot
    assert view.avail.tolist() == [[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0]]
    np.testing.assert_array_equal(view.state, view.obs.ravel())


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
    view, outcome = env.step_host(HOLD)
    assert not view.obs[0].any() and view.avail[0].tolist() == [1, 0, 0, 0]
    assert view.obs[1].any() and view.avail[1].tolist() == [0, 1, 1, 1]
    assert outcome.reward == pytest.approx((1 + 2 + 3) / 3)
    _, outcome = env.step_host(HOLD)
    assert set(convoy.last) == {"bike", "van"}
    assert outcome.reward == pytest.approx((2 + 3) / 3)  # over all three agents: leaving gains nothing
    assert not outcome.terminal and not outcome.truncated


@pytest.mark.parametrize(("cut", "terminal", "truncated"), [(False, True, False), (True, False, True)])
def test_the_last_step_is_terminal_or_truncated(cut, terminal, truncated):
    env = team(Convoy(cut=cut))
    env.reset_host(0)
    outcomes = [env.step_host(HOLD) for _ in range(4)]
    assert [bool(o.terminal) for _, o in outcomes] == [False] * 3 + [terminal]
    assert [bool(o.truncated) for _, o in outcomes] == [False] * 3 + [truncated]
    last = outcomes[-1][0]
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
    view, outcome = env.step_host(HOLD)
    assert view.state.tolist() == [1, 1, 2, 3]
    assert outcome.reward == 6


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
