"""Methods: how their parts put the formulas together, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import as_jax, inputs_of, random_episode, random_team

from ovmse.core import action_selection, values
from ovmse.core.errors import UserError
from ovmse.core.schedules import constant, linear
from ovmse.core.settings import describe
from ovmse.methods import METHODS
from ovmse.methods.exploration import EpsilonGreedy, Independent, Sequential
from ovmse.methods.losses import CQL, SquaredError
from ovmse.methods.method import Method
from ovmse.methods.signatures import ActionInputs
from ovmse.methods.targets import TD, OfflineValueMemory, offline_q_tot

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def seen():
    """What the networks say of an episode, a target, and the episode."""
    rng = np.random.default_rng(0)
    episode = as_jax(random_episode(rng, 5))
    target = jnp.asarray(rng.normal(size=6), jnp.float32)
    return inputs_of(random_team(0), random_team(1), episode, td_target=target, key=KEY)


def test_losses_add_the_regulariser_to_the_squared_error(seen):
    v, episode = seen.values, seen.episode
    squared = (v.q_tot - seen.td_target) ** 2
    np.testing.assert_allclose(SquaredError()(seen), squared)
    avail, action = episode.avail[:-1], episode.action
    gaps = {
        "per_agent": values.cql_per_agent(v.q, avail, action),
        "counterfactual": values.cql_counterfactual(v.weights, v.q, avail, action),
        "joint": values.cql_joint(v.weights, v.q, avail, action, values.sample_joint(KEY, avail, 7)),
    }
    for form, gap in gaps.items():
        loss = CQL(alpha=2.5, form=form, samples=7)
        np.testing.assert_allclose(loss(seen), squared + 2.5 * gap, rtol=1e-6)
    np.testing.assert_allclose(CQL(alpha=0.0)(seen), squared)


def test_targets_follow_their_schedule():
    td, memory = jnp.array([1.0, 1.0]), jnp.array([3.0, -3.0])
    remember = OfflineValueMemory(linear(1.0, 0.0))
    np.testing.assert_allclose(remember(td, memory, jnp.float32(0.0)), [3.0, 1.0])
    np.testing.assert_allclose(remember(td, memory, jnp.float32(0.75)), [1.5, 1.0])
    np.testing.assert_allclose(TD()(td, memory, jnp.float32(0.0)), td)


@pytest.mark.parametrize(
    ("part", "function"),
    [
        (Sequential, action_selection.sequential),
        (EpsilonGreedy, action_selection.epsilon_greedy),
        (Independent, action_selection.independent),
    ],
)
def test_exploration_follows_its_schedule(part, function):
    rng = np.random.default_rng(0)
    q, avail = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), jnp.ones((3, 4), bool)
    keys = jax.random.split(KEY, 200)
    inputs = ActionInputs(q, avail, 0, jnp.float32(0.25), None, None, 6)
    ours = jax.vmap(lambda k: part(linear(1.0, 0.0))(k, inputs))(keys)
    np.testing.assert_array_equal(ours, jax.vmap(lambda k: function(k, q, avail, jnp.float32(0.75)))(keys))


@pytest.mark.parametrize("n_agents", [3, 10])
def test_methods_that_are_compared_let_each_agent_act_at_random_equally_often(n_agents):
    """The share of an agent's actions that are not greedy; of 50 actions the greedy one is drawn once in 50."""
    q = jnp.zeros((n_agents, 50)).at[:, 7].set(1.0)
    inputs = ActionInputs(q, jnp.ones(q.shape, bool), 0, jnp.float32(0.5), None, None, 6)
    draws = 20_000

    def deviations(explore):
        return np.asarray(jax.vmap(lambda key: explore(key, inputs))(jax.random.split(KEY, draws))) != 7

    for explore in (METHODS["ovmse"].explore, METHODS["finetune"].explore, Independent(constant(0.06), per_agent=True)):
        assert deviations(explore).mean() == pytest.approx(0.06 * 0.98, abs=4 * (0.06 / draws / n_agents) ** 0.5)
    always = deviations(Sequential(constant(0.9), per_agent=True))
    assert always.sum(axis=1).max() == 1 and always.any(axis=1).mean() > 0.97  # one explorer in every step, never two


def test_the_memory_is_the_frozen_teams_q_tot(seen):
    episode, team = seen.episode, random_team(0)
    np.testing.assert_allclose(offline_q_tot(team, episode), values.taken_q_tot(team, episode))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Method(), "offline loss, an online target, or both"),
        (lambda: Method(online_target=TD(), offline_share=constant(1.5)), "the offline share"),
        (lambda: CQL(alpha=-1.0), "alpha must be 0 or more"),
        (lambda: CQL(alpha=float("nan")), "alpha must be 0 or more"),
        (lambda: CQL(samples=0), "samples must be at least 1"),
        (lambda: OfflineValueMemory(linear(1.2, 0.0)), "the memory's weight"),
        (lambda: Sequential(constant(1.1)), "ε must stay"),
        (lambda: EpsilonGreedy(linear(0.1, -0.1)), "ε must stay"),
    ],
)
def test_unusable_parts_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_remembering_nothing_is_refused():
    with pytest.raises(UserError):
        Method(offline_loss=None, online_target=OfflineValueMemory(constant(1.0)))


def test_what_a_method_needs():
    assert METHODS["ovmse"].uses_data and METHODS["ovmse"].mixes_data
    assert METHODS["offline"].uses_data and not METHODS["offline"].mixes_data
    assert not METHODS["scratch"].uses_data
    assert Method(online_target=TD(), offline_share=linear(0.0, 0.5)).uses_data


@pytest.mark.parametrize("name", METHODS)
def test_methods_compare_and_go_into_json(name):
    method = METHODS[name]
    assert dataclasses.replace(method) == method and hash(method) == hash(dataclasses.replace(method))
    described = json.loads(json.dumps(describe(method)))
    assert described["type"] == "Method"
    assert set(described) == {"type", *(f.name for f in dataclasses.fields(Method))}
