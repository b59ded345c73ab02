"""Environments with SMAC's interface: ends told apart, crashes, what survives a reset, and the many forms it takes."""

import gc
import random
import sys
import types

import numpy as np
import pytest
from support.skirmish import Skirmish

from ovmse import envs
from ovmse.core.errors import UserError
from ovmse.envs.guarded import EnvFault, GuardedEnv

STOP, SHOOT = np.array([1, 1, 1]), np.array([2, 2, 3])


@pytest.fixture
def lab(monkeypatch):
    """A module of environments that can be named as ``pymarl:lab:CLASS``."""
    module = types.ModuleType("lab")
    module.Skirmish = Skirmish
    monkeypatch.setitem(sys.modules, "lab", module)
    monkeypatch.setattr("ovmse.envs.pymarl._known_habits", {})
    return module


def skirmish(lab, **settings):
    return envs.make("pymarl:lab:Skirmish", **settings)


def play(env, actions):
    """The results of an episode by these actions, repeated, up to its end."""
    env.reset_host(0)
    results = []
    while not results or not (results[-1].terminal or results[-1].truncated):
        results.append(env.step_host(actions)[1])
    return results


def test_sizes_are_those_that_the_environment_tells(lab):
    spec = skirmish(lab).spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size) == (3, 4, 4, 18)
    assert spec.episode_limit == 8 and spec.has_win
    assert spec.settings["health"] == 4 and spec.settings["reward"] == "sum"
    assert envs.make(spec.name, **spec.settings).spec == spec


@pytest.mark.parametrize("tells_limit", [True, False])
def test_a_time_limit_is_told_from_a_defeat_and_a_win(lab, tells_limit):
    late = play(skirmish(lab, tells_limit=tells_limit), STOP)
    assert play(skirmish(lab, reward_scale=2.0, health=1), SHOOT)[-1].reward == 24
    assert len(late) == 8 and late[-1].truncated and not late[-1].terminal and not late[-1].won
    lost = [3, 6]  # one dies at step 3, one at 6, and the third where the game would end anyway
    env = skirmish(lab, pace=3, episode_limit=20, tells_limit=tells_limit)
    env.reset_host(0)
    for t in range(1, 10):
        alive = 3 - sum(t > k for k in lost)
        action = np.where(np.arange(3) < 3 - alive, 0, 1)
        result = env.step_host(action)[1]
    assert result.terminal and not result.truncated and not result.won
    won = play(skirmish(lab, health=1), SHOOT)
    assert won[-1].terminal and won[-1].won and not won[-1].truncated and won[-1].reward == 12


def test_a_defeat_at_the_last_step_is_told_where_time_limits_are_counted(lab):
    """SMAC counts its ``timeouts``, whatever its infos tell."""

    class Counting(Skirmish):
        timeouts = 0

        def step(self, actions):
            reward, terminated, info = super().step(actions)
            self.timeouts += int(terminated and self.enemies.any() and self.alive.any())
            return reward, terminated, info

    lab.Counting = Counting
    for pace, lost in ((3, True), (100, False)):
        env = envs.make("pymarl:lab:Counting", pace=pace, episode_limit=9, tells_limit=False)
        env.reset_host(0)
        for t in range(1, 10):
            dead = sum(t > k for k in (3, 6)) if lost else 0
            result = env.step_host(np.where(np.arange(3) < dead, 0, 1))[1]
        assert bool(result.terminal) == lost and bool(result.truncated) != lost


def test_a_win_at_the_last_step_is_no_time_limit(lab):
    result = play(skirmish(lab, health=1, episode_limit=1), SHOOT)[-1]
    assert result.terminal and result.won and not result.truncated


def test_a_shorter_limit_of_the_users_own_cuts(lab):
    results = play(skirmish(lab, episode_limit=2), STOP)
    assert [bool(r.truncated) for r in results] == [False, True]


@pytest.mark.parametrize("crashes", [(1,), (30,)])
def test_a_crash_discards_the_episode(lab, crashes):
    """Also in the very first step, where nothing is known of the environment's infos yet."""
    env = GuardedEnv(lambda: skirmish(lab, crashes=crashes), seconds=10.0)
    with pytest.raises(EnvFault, match="the game crashed"):
        for number in range(9):
            env.reset_host(number)
            for _ in range(8):
                env.step_host(STOP)


def test_a_crash_shows_without_a_count_of_them(lab):
    class Silent(Skirmish):
        def step(self, actions):
            returned = super().step(actions)
            self.force_restarts = 0
            return returned

    lab.Silent = Silent
    env = envs.make("pymarl:lab:Silent", crashes=(3,))
    env.reset_host(0)
    env.step_host(STOP), env.step_host(STOP)
    with pytest.raises(Exception, match="the game crashed"):
        env.step_host(STOP)


def test_what_survives_reset_does_not_reach_the_next_episode(lab):
    for settings in ({"leftover": True}, {"luck": True}):
        env = skirmish(lab, **settings)
        first = [env.reset_host(5), *(env.step_host(SHOOT)[0] for _ in range(1))]
        env.step_host(STOP)
        again = [env.reset_host(5), *(env.step_host(SHOOT)[0] for _ in range(1))]
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.state, b.state)
        assert env.habits.fresh
        envs.check(env)
    assert not skirmish(lab).habits.fresh
    assert skirmish(lab, fresh=True).habits == (True, True, True, True)
    assert skirmish(lab, leftover=True, fresh=False).habits == (False, False, True, True)


def test_copies_that_draw_from_the_global_generators_are_seeded_one_by_one(lab):
    class Dice(Skirmish):
        def reset(self):
            super().reset()
            self.enemies = np.array([np.random.randint(1, 5), random.randint(1, 5)])

        def step(self, actions):
            reward, *rest = super().step(actions)
            return (reward + np.random.normal(), *rest)

    lab.Dice = Dice
    np.random.seed(3)
    mine = np.random.get_state()[1].copy()
    one, two = (envs.make("pymarl:lab:Dice") for _ in range(2))
    first = [r.reward for r in play(one, STOP)]
    one.reset_host(0), two.reset_host(7)
    by_turns = []
    for _ in range(8):
        by_turns.append(one.step_host(STOP)[1].reward)
        two.step_host(STOP)
    assert by_turns == first
    assert len({tuple(one.reset_host(seed).state) for seed in range(20)}) > 1
    np.testing.assert_array_equal(np.random.get_state()[1], mine)
    envs.check(one)


def test_an_environment_that_no_seed_repeats_says_so(lab):
    class Chance(Skirmish):
        def get_obs(self):
            return [row + float(np.random.default_rng().random()) for row in super().get_obs()]

    lab.Chance = Chance
    env = envs.make("pymarl:lab:Chance")
    assert not env.repeatable and not env.habits.fresh
    envs.check(env)


def test_nothing_is_printed(lab, capfd):
    env = skirmish(lab)
    play(env, STOP)
    assert capfd.readouterr() == ("", "")


class Loose:
    """The interface as PyMARL's kin have it otherwise: tuples, lists per agent, no state, no keys, nothing told."""

    def __init__(self, size, /, *, rounds=3):
        self.size, self.rounds = size, rounds

    def reset(self, seed=None):
        self.t = 0

    def get_obs(self):
        return tuple([float(self.t)] * (i + 1) for i in range(self.size))

    def get_state(self):
        raise NotImplementedError

    def get_avail_actions(self):
        return [[np.True_, 1][: i + 1] for i in range(self.size)]

    def step(self, actions):
        self.t += 1
        return [1.0] * self.size, [np.bool_(self.t == self.rounds)] * self.size, {}


def test_loose_interfaces_are_taken(lab):
    lab.Loose = Loose
    env = envs.make("pymarl:lab:Loose", size=2, episode_limit=5)
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.obs_size, env.spec.state_size) == (2, 2, 2, 4)
    assert not env.spec.has_win
    assert env.reset_host(0).avail.tolist() == [[True, False], [True, True]]
    results = play(env, np.array([0, 1]))
    assert [float(r.reward) for r in results] == [2.0] * 3
    assert results[-1].terminal and not results[-1].truncated
    envs.check(env)
    assert play(envs.make("pymarl:lab:Loose", size=2, episode_limit=5, reward="mean"), np.array([0, 1]))[0].reward == 1
    with pytest.raises(UserError, match="does not tell its episode_limit"):
        envs.make("pymarl:lab:Loose", size=2)
    end = play(envs.make("pymarl:lab:Loose", size=2, episode_limit=3), np.array([0, 1]))[-1]
    assert end.truncated
    end = play(envs.make("pymarl:lab:Loose", size=2, episode_limit=3, at_limit="terminal"), np.array([0, 1]))[-1]
    assert end.terminal


def test_lists_of_legal_actions_are_no_masks(lab):
    """Pogema's ``get_avail_actions`` lists numbers."""

    class Listed(Skirmish):
        def get_avail_actions(self):
            return [np.flatnonzero(mask) for mask in super().get_avail_actions()]

    lab.Listed = Listed
    assert envs.make("pymarl:lab:Listed").reset_host(0).avail.tolist() == [[False, True, True, True]] * 3


def test_the_newer_form_of_step_is_taken(lab):
    class Newer(Skirmish):
        def reset(self, seed=None, options=None):
            super().reset()
            return self.get_obs(), {}

        def step(self, actions):
            reward, terminated, info = super().step(actions)
            late = bool(info.pop("episode_limit", False))
            return self.get_obs(), reward, terminated and not late, late, info

    lab.Newer = Newer
    end = play(envs.make("pymarl:lab:Newer"), STOP)[-1]
    assert end.truncated and not end.terminal


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("pymarl:lab:Skirmisch", {}, "unknown attribute of lab 'Skirmisch'. Did you mean 'Skirmish'"),
        ("lab:Skirmish", {}, "made a Skirmish without spec.*: pymarl:lab:Skirmish adapts it"),
        ("pymarl:lab", {}, "expected pymarl:MODULE:CLASS"),
        (
            "pymarl:lab:Skirmish",
            {"healthy": 3},
            "unknown setting of pymarl:lab:Skirmish 'healthy'. Did you mean 'health'",
        ),
        ("pymarl:lab:Skirmish", {"reward": "max"}, "unknown reward 'max'"),
        ("pymarl:lab:Skirmish", {"at_limit": "lost"}, "unknown at_limit 'lost'"),
        ("pymarl:lab:Skirmish", {"map_name": print}, "must be a JSON value"),
        ("pymarl:no_such_module:Env", {}, "No module 'no_such_module'"),
        ("smac:3m", {}, r"pip install git\+https://github.com/oxwhirl/smac.git.*another project"),
        ("smacv2:terran_5_vs_5", {}, r"pip install git\+https://github.com/oxwhirl/smacv2.git 'protobuf<3.21'"),
        ("smacv2:terran_5", {}, "expected RACE_N_vs_M"),
    ],
)
def test_bad_names_and_settings_are_named(lab, name, settings, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **settings)


def test_a_loss_at_the_limit_that_tells_nothing_is_no_crash(lab):
    class Terse(Skirmish):
        def step(self, actions):
            reward, over, info = super().step(actions)
            return (reward, over, {"battle_won": True}) if info.get("battle_won") else (0.0, over, {})

    lab.Terse = Terse
    env = envs.make("pymarl:lab:Terse", health=1)
    assert play(env, SHOOT)[-1].won
    end = play(env, STOP)[-1]
    assert end.truncated and not end.won


def test_a_game_ends_with_its_adapter_and_with_python(lab):
    closed = []

    class Closing(Skirmish):
        def close(self):
            closed.append(self)

    lab.Closing = Closing
    env = envs.make("pymarl:lab:Closing")
    env.reset_host(0)
    made = len(closed) + 1
    del env
    gc.collect()
    assert len(closed) == made and len(set(map(id, closed))) == made


def test_a_fault_in_the_trial_is_one_of_many(lab):
    class Flaky(Skirmish):
        failed = False

        def step(self, actions):
            if not Flaky.failed:
                Flaky.failed = True
                raise RuntimeError("licence server lost")
            return super().step(actions)

    lab.Flaky = Flaky
    env = envs.make("pymarl:lab:Flaky")
    assert Flaky.failed
    envs.check(env)
