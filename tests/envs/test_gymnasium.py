"""Gymnasium's team environments: ends told apart, unlike agents, masks, state, rewards per agent, and the real ones."""

import numpy as np
import pytest

from ovmse import envs
from ovmse.core.errors import UserError

pytest.importorskip("gymnasium")

NAME = "gymnasium:support.errands:Errands-v0"


def play(env, action, seed=0):
    """The results of an episode by one joint action, repeated up to its end."""
    env.reset_host(seed)
    results = []
    while not results or not (results[-1].terminal or results[-1].truncated):
        results.append(env.step_host(np.array(action))[1])
    return results


def test_unlike_agents_are_a_team():
    env = envs.make(NAME)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size, spec.episode_limit) == (2, 3, 3, 6, 10)
    observation = env.reset_host(0)
    assert observation.avail.tolist() == [[1, 1, 0], [1, 1, 1]] and observation.obs[0, 2] == 0
    assert not spec.has_win and spec.version == "support unknown"
    assert envs.make(spec.name, **spec.settings).spec == spec
    envs.check(env)


def test_an_end_by_the_environments_own_limit_is_no_end_of_the_task():
    late = play(envs.make(NAME), [0, 0])
    assert len(late) == 10 and late[-1].truncated and not late[-1].terminal
    done = play(envs.make(NAME), [1, 2])
    assert done[-1].terminal and not done[-1].truncated
    last = play(envs.make(NAME, max_steps=len(done)), [1, 2])
    assert last[-1].terminal  # the task's end, at the last step allowed


@pytest.mark.parametrize(
    ("name", "settings", "limit"),
    [
        (NAME, {"max_steps": 4}, 4),
        (NAME, {"episode_limit": 20}, 20),
        ("gymnasium:support.errands:Limited-v0", {}, 3),
        ("gymnasium:support.errands:Endless-v0", {"episode_limit": 6}, 6),
    ],
)
def test_the_limit_is_the_environments_or_the_users(name, settings, limit):
    env = envs.make(name, **settings)
    assert env.spec.episode_limit == limit == len(play(env, [0, 0]))
    assert envs.make(name, **env.spec.settings).spec == env.spec


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("reward", "expected"), [("sum", 3.0), ("mean", 1.5)])
def test_rewards_of_the_agents_are_combined_as_said(reward, expected, together):
    if together:  # one reward for the team is that, however agents' would be combined
        expected = 3.0
    assert play(envs.make(NAME, reward=reward, together=together), [1, 2])[0].reward == expected
    assert play(envs.make(NAME, reward=reward, together=together, reward_scale=4.0), [1, 2])[0].reward == 4 * expected


def test_masks_and_state_of_the_info_are_taken():
    env = envs.make(NAME, masked=True)
    assert env.reset_host(0).avail.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert env.step_host(np.array([0, 1]))[0].state.tolist() == [7, 1]
    envs.check(env)


def test_what_survives_reset_does_not_reach_the_next_episode():
    envs.check(envs.make(NAME, leftover=True))
    with pytest.raises(UserError, match="two episodes with seed 0 and equal actions differ"):
        envs.check(envs.make(NAME, leftover=True, fresh=False))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gymnasium:support.errands:Errand-v0", {}, "nothing registers 'Errand-v0'. Did you mean 'Errands-v0'"),
        ("gymnasium:support.errands", {}, "expected gymnasium:MODULE:ID"),
        (
            "gymnasium:no_such_library:X-v0",
            {},
            r"there is no module 'no_such_library'.*pip install 'ovmse\[gymnasium\]'",
        ),
        ("gymnasium:gymnasium:CartPole-v1", {}, "no space per agent"),
        ("gymnasium:support.errands:Endless-v0", {}, "has no time limit, so it needs the setting episode_limit"),
        (NAME, {"gaol": 3}, "unknown setting of gymnasium:support.errands:Errands-v0 'gaol'. Did you mean 'goal'"),
        (NAME, {"goal": print}, "must be a JSON value"),
        (NAME, {"reward": "max"}, "unknown reward 'max'"),
    ],
)
def test_bad_names_and_settings_are_named(name, settings, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **settings)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lbforaging:Foraging-8x8-2p-1f-coop-v3", (2, 6, 9, 18, 50)),
        ("rware:rware-tiny-2ag-v2", (2, 5, 71, 142, 500)),
    ],
)
def test_real_ones(name, sizes):
    pytest.importorskip(name.partition(":")[0])
    env = envs.make(f"gymnasium:{name}", **({"max_steps": 40} if "rware" in name else {}))
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size) == sizes[:4]
    assert spec.version.startswith(name.partition(":")[0])
    assert play(env, [0, 0])[-1].truncated
    envs.check(env)
