"""One gradient update, computed by one core or by two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import (
    SMALL,
    SPEC,
    as_jax,
    close,
    in_float64,
    random_episode,
    random_team,
    replay_of,
    stack,
    write_dataset,
)

from ovmse import envs
from ovmse.config import Config
from ovmse.learning import learner, parallel, phases, update
from ovmse.learning.lengths import group_size, lane_count
from ovmse.learning.play import Actor, make_collect
from ovmse.learning.rollout import Rollout, Teams
from ovmse.methods import METHODS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="needs two CPU devices"),
]

T = SPEC.episode_limit
CONFIG = Config(
    env=SPEC.name, batch_episodes=16, updates_per_collect=3, online_env_steps=1000, replay_env_steps=60, learner=SMALL
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, 1 + i % T) for i in range(20)]
    return as_jax(replay_of(write_dataset(tmp_path_factory.mktemp("update") / "data", SPEC, episodes)))


def on_cores(cores, program, state, *shared):
    """What a program makes of the state of a single seed on so many cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "cores_per_seed", lambda seeds: cores)
        states = parallel.split(jax.tree.map(lambda x: jnp.asarray(x)[None], state), 1)
        [found] = parallel.over_seeds(program, 1, keep=True)(states, *shared)
        assert len(jax.tree.leaves(found)[0].sharding.device_set) == cores
        return found


def offline_state(**parts):
    return phases.begin(learner.restart(CONFIG.learner, random_team(0, **parts)), jax.random.key(3))


def learn_offline(state, data):
    return phases.learn_offline(CONFIG, SPEC, METHODS["ovmse"], state, data, jnp.int32(3), [4, 7, 2 * T + 1])


def learn_online(name):
    method = METHODS[name]

    def program(state, data, played):
        state = phases.handover(CONFIG, SPEC, method, state, data)
        return phases.learn_online(CONFIG, SPEC, method, state, played, data, [3, T, 2 * T + 1])

    return program


def test_two_cores_learn_what_one_learns_bit_for_bit(data):
    one, two = (on_cores(n, learn_offline, offline_state(), data) for n in (1, 2))
    assert int(two.learner.updates[0]) == 3
    same_bits(one, two)


def test_and_in_float64(data):
    with jax.enable_x64(True):
        state, double = in_float64(offline_state()), in_float64(data)
        one, two = (on_cores(n, learn_offline, state, double) for n in (1, 2))
        close(two.learner, one.learner, 1e-9)


@pytest.mark.parametrize(("name", "ratio"), [("ovmse", False), ("balanced", True)])
def test_two_cores_learn_online_what_one_learns(name, ratio, data):
    """What is remembered of new episodes, and the priorities of the dataset's, too."""
    rng = np.random.default_rng(5)
    played = Rollout(stack([random_episode(rng, n) for n in (2, 6, 3, 4)]), jnp.zeros(4, bool))
    one, two = (on_cores(n, learn_online(name), offline_state(ratio=ratio), data, played) for n in (1, 2))
    assert name == "ovmse" or (np.asarray(two.priority) != 1).any()
    same_bits(one, two)


def test_two_cores_play_what_one_plays():
    env = envs.make("matrix:two_step")
    config = dataclasses.replace(CONFIG, env="matrix:two_step", episodes_per_collect=4)
    actor = Actor(Teams(random_team(0, env.spec)), jax.random.key(1), jnp.int32(0), jnp.int32(0))

    def played(cores):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel, "cores_per_seed", lambda seeds: cores)
            actors = parallel.split(jax.tree.map(lambda x: jnp.asarray(x)[None], actor), 1)
            return make_collect(config, env, METHODS["scratch"])(actors, 2, 0.5)

    same_bits(played(1), played(2))


def same_bits(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        a, b = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b))
        np.testing.assert_array_equal(a, b)


def test_the_groups_are_dealt_out_evenly():
    np.testing.assert_array_equal(update.in_shares(6), [[0, 3, 4], [1, 2, 5]])
    np.testing.assert_array_equal(update.in_shares(3), [[0, 1, 2]])
    assert lane_count(16, SPEC.n_agents, whole_episodes=False) == 2 * group_size(16, SPEC.n_agents)
