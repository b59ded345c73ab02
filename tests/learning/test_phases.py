"""The compiled phases: what is remembered, what is mixed, what the handover keeps, and what is learned offline."""

import dataclasses

import equinox as eqx
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
from ovmse.core import action_selection
from ovmse.core.networks import unroll
from ovmse.core.schedules import constant, linear
from ovmse.core.types import Episode
from ovmse.core.values import taken_q_tot
from ovmse.learning import batches, learner, phases, replay as replays, update
from ovmse.learning.lengths import group_size, lane_count
from ovmse.learning.phases import begin
from ovmse.learning.rollout import Rollout
from ovmse.methods.losses import CQL, SquaredError
from ovmse.methods.method import Method
from ovmse.methods.targets import TD, OfflineValueMemory

pytestmark = pytest.mark.slow

T = SPEC.episode_limit
CONFIG = Config(
    env=SPEC.name,
    online_env_steps=1000,
    updates_per_collect=2,
    batch_episodes=4,
    replay_env_steps=60,
    learner=dataclasses.replace(SMALL, gamma=0.9),
)
METHOD = Method(
    offline_loss=CQL(alpha=0.5), online_target=OfflineValueMemory(linear(1.0, 0.0)), offline_share=constant(0.5)
)
LENGTHS = (3, 6, 1, 5, 2, 6, 4, 1, 3, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, n) for n in LENGTHS]
    return as_jax(replay_of(write_dataset(tmp_path_factory.mktemp("phases") / "data", SPEC, episodes)))


def offline_state(seed=0):
    return begin(learner.restart(CONFIG.learner, random_team(seed)), jax.random.key(seed))


def q_tot_beside(team, replay, slot):
    """The Q_tot of a team at each step of a stored episode, and what is remembered there."""
    episode, memory = replays.read(replay, jnp.int32(slot), T)
    valid = np.asarray(episode.valid)
    return np.asarray(beside(team, episode))[valid], np.asarray(memory)[valid]


beside = eqx.filter_jit(taken_q_tot)


def test_progress_is_the_spent_share():
    assert float(phases.progress_of(CONFIG, jnp.int32(250))) == 0.25
    assert float(phases.progress_of(CONFIG, jnp.int32(3000))) == 1.0


def test_the_handover_keeps_the_team_and_starts_afresh(data, monkeypatch):
    monkeypatch.setattr(replays, "BLOCK", 4)  # three blocks, the last one not full
    state = offline_state()
    moved = state.learner._replace(target=random_team(1), updates=jnp.int32(17))
    state = state._replace(learner=moved)
    online = eqx.filter_jit(lambda s, d: phases.handover(CONFIG, SPEC, METHOD, s, d))(state, data)
    team = state.learner.team
    for kept in (online.learner.team, online.learner.target, online.offline_team):
        assert eqx.tree_equal(kept, team)
    assert int(online.learner.updates) == 17
    assert all((x == 0).all() for x in jax.tree.leaves(online.learner.optimiser))
    assert int(online.replay.index.written) == int(online.env_steps) == int(online.episodes) == 0
    mixed = data._replace(offline_value=online.data_offline_value)
    for slot in range(len(LENGTHS)):
        q_tot, memory = q_tot_beside(team, mixed, slot)
        np.testing.assert_allclose(memory, q_tot, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "kept", "mixes"),
    [
        (METHOD, True, True),
        (dataclasses.replace(METHOD, offline_share=constant(0.0)), True, False),
        (dataclasses.replace(METHOD, memory=None, online_target=TD()), True, False),
        (Method(online_target=TD()), False, False),
    ],
)
def test_the_offline_team_is_kept_and_only_what_is_needed_remembered(method, kept, mixes, data):
    online = jax.eval_shape(lambda s, d: phases.handover(CONFIG, SPEC, method, s, d), offline_state(), data)
    assert (online.offline_team is not None) == kept
    assert (online.data_offline_value is not None) == mixes


def online_state(team, frozen, method, data=None):
    state = begin(learner.restart(CONFIG.learner, frozen), jax.random.key(0))
    online = phases.handover(CONFIG, SPEC, method, state, data)
    return online._replace(learner=learner.restart(CONFIG.learner, team))


def test_new_episodes_remember_the_frozen_team_and_not_the_learning_one():
    frozen, method = random_team(1), dataclasses.replace(METHOD, offline_share=constant(0.0))
    state = online_state(random_team(0), frozen, method)
    rng = np.random.default_rng(5)
    played = stack([random_episode(rng, n, padding=5.0) for n in (2, 6, 3)])
    run = eqx.filter_jit(lambda s, p: phases.learn_online(CONFIG, SPEC, method, s, p, None, [T]))
    for _ in range(2):
        state = run(state._replace(sums=phases.zero_sums()), Rollout(played, jnp.array([True, False, True])))
    assert not eqx.tree_equal(state.learner.team, frozen)
    assert int(state.episodes) == 6 and int(state.env_steps) == 22
    assert int(state.learner.updates) == 4 and int(state.sums.updates) == 2
    for slot in range(6):
        q_tot, memory = q_tot_beside(frozen, state.replay, slot)
        np.testing.assert_allclose(memory, q_tot, rtol=1e-5, atol=1e-5)


def objective(loss):
    return learner.Objective(loss, lambda td, memory: td)


def marked(length, reward, count):
    """Stored episodes of one length, every step with the same reward."""
    rng = np.random.default_rng(0)
    replay = replays.empty(SPEC, replays.size_of(SPEC, 60))
    for _ in range(count):
        e = random_episode(rng, length)._replace(reward=np.full(T, reward, np.float32))
        replay = replays.insert(replay, as_jax(e), jnp.zeros(T))
    return replay


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_the_offline_share_holds_on_average(share):
    """With γ = 0 the mean target is the mean reward: 1 in the dataset, 0 in the replay."""
    config = dataclasses.replace(CONFIG, learner=dataclasses.replace(SMALL, gamma=0.0))
    found = np.asarray(shares(config, jax.random.split(jax.random.key(0), 400), jnp.float32(share)))
    steps = np.round(found * 4)
    np.testing.assert_allclose(found, steps / 4, atol=1e-6)
    assert set(steps) <= {np.floor(4 * share), np.ceil(4 * share)}  # as even as a batch allows
    assert found.mean() == pytest.approx(share, abs=0.03)


@eqx.filter_jit
def shares(config, keys, share):
    state = learner.restart(config.learner, random_team(0))
    replay, data = marked(3, 0.0, 5), marked(3, 1.0, 4)

    def one(key):
        mixed = batches.Data(data, share, None)
        return update.update(config, SPEC, objective(SquaredError()), state, replay, mixed, key, [T])[1].losses.target

    return jax.lax.map(one, keys)


@pytest.mark.parametrize("form", ["per_agent", "counterfactual"])
def test_lengths_groups_and_packing_change_nothing(form, data, monkeypatch):
    """The plain formula on the whole batch at full length gives the same losses and the same update, in float64."""
    config, loss = dataclasses.replace(CONFIG, batch_episodes=16), CQL(alpha=0.5, form=form)

    def results(choices, whole):
        team, slow = in_float64(random_team(0)), in_float64(random_team(7))
        state = learner.restart(config.learner, team)._replace(target=slow)
        given = objective(loss)._replace(whole_episodes=whole)
        run = eqx.filter_jit(lambda k: update.update(config, SPEC, given, state, double, None, k, choices)[:2])
        return [(new.team, metrics) for new, metrics in (run(jax.random.key(k)) for k in range(6))]

    assert group_size(16, SPEC.n_agents) == 4 and lane_count(16, SPEC.n_agents, whole_episodes=False) == 8
    with jax.enable_x64(True):
        double = in_float64(data)
        packed, grouped, long = results([6, 8, 13], False), results([2, 3, 5, T], True), results([T], True)
        monkeypatch.setattr(update, "group_size", lambda batch, n_agents: batch)
        plain = results([T], True)
    for found in (packed, grouped, long):
        close(found, plain, 1e-9)


@pytest.mark.parametrize("form", ["per_agent", "joint", "counterfactual"])
def test_cql_finds_the_best_logged_action_of_the_climbing_game(form, tmp_path):
    """(0, 0) pays 11, but nobody ever played it: of what was logged (1, 1) is best, with 7."""
    spec = envs.make("matrix:climbing").spec
    logged = {(1, 1): 7.0, (1, 2): 6.0, (2, 2): 5.0, (0, 2): 0.0}
    rows = np.array([[1.0], [0.0]], np.float32)
    episodes = [
        Episode(
            obs=np.repeat(rows[:, None], 2, axis=1),
            state=rows,
            avail=np.ones((2, 2, 3), bool),
            action=np.array([action], np.int32),
            reward=np.array([reward], np.float32),
            terminal=np.array([True]),
            valid=np.array([True]),
        )
        for action, reward in logged.items()
    ]
    data = as_jax(replay_of(write_dataset(tmp_path / "logged", spec, episodes)))
    config = dataclasses.replace(
        CONFIG, batch_episodes=16, learner=dataclasses.replace(SMALL, learning_rate=0.01, target_every_updates=20)
    )
    method = Method(offline_loss=CQL(alpha=0.1, form=form))
    state = begin(learner.restart(config.learner, random_team(0, spec)), jax.random.key(0))
    run = eqx.filter_jit(lambda s, d, n: phases.learn_offline(config, spec, method, s, d, n, [1]))
    state = run(state, data, jnp.int32(400))
    assert int(state.sums.updates) == int(state.learner.updates) == 400
    episode = as_jax(episodes[0])
    q = unroll(state.learner.team.agent, episode).q
    np.testing.assert_array_equal(action_selection.greedy(q[0], episode.avail[0]), [1, 1])
    assert float(taken_q_tot(state.learner.team, episode)[0]) == pytest.approx(7.0, abs=0.7)
