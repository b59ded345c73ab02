"""JaxMARL's environments beside SMAX: unlike agents, shared rewards, ends, and their settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ovmse import envs
from ovmse.core.errors import UserError

pytestmark = pytest.mark.slow  # the library takes seconds to import


def test_unlike_agents_are_a_team():
    env = envs.make("jaxmarl:MPE_simple_speaker_listener_v4", max_steps=4)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size, spec.episode_limit) == (2, 5, 11, 22, 4)
    assert spec.agents == ("speaker_0", "listener_0") and spec.kinds == (0, 1)
    state, observation = env.reset(jax.random.key(0))
    assert observation.avail.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert not observation.obs[0, 3:].any() and observation.obs[1, 3:].any()
    ends = []
    for t in range(4):
        state, observation, result = env.step(jax.random.key(t), state, jnp.array([0, 0]))
        ends.append((bool(result.terminal), bool(result.truncated)))
    assert ends == [(False, False)] * 3 + [(False, True)]
    envs.check(env)
    assert envs.make(spec.name, **spec.settings).spec == spec


def test_rewards_are_combined_as_said():
    def reward(**settings):
        env = envs.make("jaxmarl:MPE_simple_spread_v3", **settings)
        state, _ = env.reset(jax.random.key(0))
        return float(env.step(jax.random.key(1), state, jnp.array([1, 2, 3]))[2].reward)

    assert reward(reward="sum") == pytest.approx(3 * reward(), rel=1e-5)
    assert reward(reward_scale=2.0) == pytest.approx(2 * reward(), rel=1e-5)


def test_an_end_of_the_task_is_terminal():
    env = envs.make("jaxmarl:switch_riddle", num_agents=3)
    state, _ = env.reset(jax.random.key(0))
    tell = jnp.full(3, env._env.game_actions["TELL"])
    _, _, result = env.step(jax.random.key(0), state, tell)
    assert bool(result.terminal) and not bool(result.truncated)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("jaxmarl:MPE_simple_spred_v3", {}, "no such environment. Did you mean 'MPE_simple_spread_v3'"),
        ("jaxmarl:MPE_simple_spread_v3", {"num_agent": 3}, "unknown setting .* Did you mean 'num_agents'"),
        ("jaxmarl:MPE_simple_spread_v3", {"reward": "max"}, "unknown reward 'max'"),
        ("jaxmarl:MPE_simple_spread_v3", {"action_type": "Continuous"}, "only Discrete ones"),
        ("jaxmarl:hanabi", {}, "needs the setting episode_limit"),
    ],
)
def test_bad_names_and_settings_are_named(name, settings, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **settings)


def test_masks_of_the_environment_are_kept():
    env = envs.make("jaxmarl:hanabi", episode_limit=80)
    _, observation = env.reset(jax.random.key(0))
    counts = np.asarray(observation.avail).sum(axis=1)
    assert counts.min() == 1  # who is not to move can only wait
    assert counts.max() > 1
