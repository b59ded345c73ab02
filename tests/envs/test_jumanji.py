"""Jumanji's team environments: what agents see, ends and wins, settings; only where the library is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ovmse import envs
from ovmse.core.errors import UserError

jumanji = pytest.importorskip("jumanji")
pytestmark = pytest.mark.slow

SMALL = {
    "Connector-v3": {"grid_size": 4, "num_agents": 2, "time_limit": 6},
    "RobotWarehouse": {"time_limit": 5, "num_agents": 2},
    "LBF": {"time_limit": 5, "grid_size": 5, "fov": 5, "num_food": 1},
    "Cleaner": {"num_rows": 4, "num_cols": 4, "num_agents": 2, "time_limit": 6},
}


@pytest.mark.parametrize("name", SMALL)
def test_check_passes(name):
    env = envs.make(f"jumanji:{name}", **SMALL[name])
    envs.check(env)
    assert env.spec.version.startswith("jumanji ")
    assert env.spec.episode_limit == SMALL[name]["time_limit"]
    assert envs.make(env.spec.name, **env.spec.settings).spec == env.spec


def test_connector_shows_every_agent_its_own_target():
    env = envs.make("jumanji:Connector", **SMALL["Connector-v3"])
    state, observation = env.reset(jax.random.key(0))
    taken, others, own, me = np.asarray(observation.obs).reshape(2, 4, 4, 4).transpose(1, 0, 2, 3)
    for i in range(2):
        assert np.argwhere(own[i]).tolist() == [state.agents.target[i].tolist()]
        assert np.argwhere(others[i]).tolist() == [state.agents.target[1 - i].tolist()]
        assert np.argwhere(me[i]).tolist() == [state.agents.position[i].tolist()]
    assert taken[0].sum() == 4 and (taken[0] == taken[1]).all()


def test_a_cleaned_maze_is_won_and_a_dirty_one_at_the_limit_is_not():
    env = envs.make("jumanji:Cleaner", **SMALL["Cleaner"])
    state, first = env.reset(jax.random.key(0))
    legal = jnp.argmax(first.avail, axis=1)
    clean = state.replace(grid=jnp.where(state.grid == 0, 1, state.grid))
    _, _, result = env.step(jax.random.key(0), clean, legal)
    assert bool(result.terminal) and bool(result.won) and not bool(result.truncated)
    late = state.replace(step_count=jnp.int32(5))
    _, _, result = env.step(jax.random.key(0), late, legal)
    assert bool(result.truncated) and not bool(result.terminal) and not bool(result.won)


def test_a_collision_in_the_warehouse_is_terminal_even_at_the_limit():
    env = envs.make("jumanji:RobotWarehouse", time_limit=500)
    play = jax.jit(jax.vmap(lambda key: _random_episode(env, key)))
    terminal, truncated = play(jax.random.split(jax.random.key(0), 16))
    assert terminal.any() and not (terminal & truncated).any()


def _random_episode(env, key):
    first, key = jax.random.split(key)
    state, observation = env.reset(first)

    def step(carry, key):
        state, avail, going = carry
        action = jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf))
        state, observation, result = env.step(key, state, action)
        ended = result.terminal | result.truncated
        return (state, observation.avail, going & ~ended), (result.terminal & going, result.truncated & going)

    _, (terminal, truncated) = jax.lax.scan(step, (state, observation.avail, True), jax.random.split(key, 500))
    return terminal.any(), truncated.any()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("jumanji:Conector-v3", {}, "unknown environment of jumanji 'Conector'. Did you mean 'Connector'"),
        ("jumanji:Connector-v1", {}, r"the installed jumanji .* has Connector-v3"),
        ("jumanji:Cleaner", {"num_row": 3}, "unknown setting of jumanji:Cleaner-v0 'num_row'. Did you mean 'num_rows'"),
        ("jumanji:Cleaner", {"num_rows": "many"}, "'num_rows' of jumanji:Cleaner-v0 must be a number"),
    ],
)
def test_bad_names_and_settings_are_named(name, settings, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **settings)
