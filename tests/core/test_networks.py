"""The networks: parity with plain NumPy, the documented layout, monotone mixing, and no look ahead."""

import dataclasses
import re

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from support.episodes import SMALL, SPEC, as_jax, in_float64, random_episode, random_team
from support.places import ROOT

from ovmse.core import mixers, networks
from ovmse.core.types import Episode
from ovmse.learning import learner
from ovmse.system import pytree_files

PAGE = ROOT / "docs" / "parameters.md"
unroll = eqx.filter_jit(networks.unroll)


# The networks again, from the formulas of docs/parameters.md, in NumPy


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_unroll(p, episode):
    """Utilities [T+1, N, A] from arrays by name, one agent and one gate at a time."""
    rows, n, a = episode.avail.shape
    h = np.zeros((n, p["agent.head.weight"].shape[1]))
    size = h.shape[1]
    out = np.zeros((rows, n, a))
    w_r, w_z, w_n = (p["agent.cell.weight_ih"][k * size : (k + 1) * size] for k in range(3))
    u_r, u_z, u_n = (p["agent.cell.weight_hh"][k * size : (k + 1) * size] for k in range(3))
    b_r, b_z, b_n = (p["agent.cell.bias"][k * size : (k + 1) * size] for k in range(3))
    for t in range(rows):
        for i in range(n):
            last = np.eye(a)[episode.action[t - 1, i]] if t > 0 else np.zeros(a)
            x = np.concatenate([episode.obs[t, i], np.eye(n)[i], last])
            e = np.maximum(0, p["agent.encoder.weight"] @ x + p["agent.encoder.bias"])
            r = sigmoid(w_r @ e + b_r + u_r @ h[i])
            z = sigmoid(w_z @ e + b_z + u_z @ h[i])
            new = np.tanh(w_n @ e + b_n + r * (u_n @ h[i] + p["agent.cell.bias_n"]))
            h[i] = (1 - z) * new + z * h[i]
            out[t, i] = p["agent.head.weight"] @ h[i] + p["agent.head.bias"]
    return out


def reference_mix(p, state, q):
    """Q_tot at one state of one joint action's utilities."""

    def two_layers(name):
        hidden = np.maximum(0, p[f"{name}.0.weight"] @ state + p[f"{name}.0.bias"])
        return p[f"{name}.1.weight"] @ hidden + p[f"{name}.1.bias"]

    b1 = p["mixer.b1.weight"] @ state + p["mixer.b1.bias"]
    w1 = np.abs(two_layers("mixer.w1")).reshape(len(q), len(b1))
    hidden = q @ w1 + b1
    hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
    return hidden @ np.abs(two_layers("mixer.w2")) + two_layers("mixer.b2")[0]


def by_name(team):
    return {name: np.asarray(array, np.float64) for name, array in pytree_files.names(team).items()}


def test_utilities_equal_the_formulas():
    seed = 0
    with jax.enable_x64(True):
        team = in_float64(random_team(seed))
        episode = random_episode(np.random.default_rng(seed), 6, dtype=np.float64)
        ours = networks.unroll(team.agent, as_jax(episode)).q
        np.testing.assert_allclose(ours, reference_unroll(by_name(team), episode), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_q_tot_equals_the_formulas(seed):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        team = in_float64(random_team(seed))
        state, q = rng.normal(size=(5, SPEC.state_size)), 3 * rng.normal(size=(5, SPEC.n_agents))
        ours = mixers.mix(mixers.weights_at(team.mixer, jnp.asarray(state)), jnp.asarray(q))
        theirs = [reference_mix(by_name(team), s, x) for s, x in zip(state, q, strict=True)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_single_precision_is_close_to_double():
    team, episode = random_team(0), random_episode(np.random.default_rng(0), 6)
    found = unroll(team.agent, as_jax(episode)).q
    np.testing.assert_allclose(found, reference_unroll(by_name(team), episode), atol=1e-5)


def test_a_cell_with_two_biases_loads_as_documented():
    """PyTorch's GRUCell: r, z = σ(W x + b_ih + U h + b_hh), n = tanh(W x + b_ih + r (U h + b_hh))."""
    rng, size = np.random.default_rng(0), SMALL.hidden
    w, u = rng.normal(size=(2, 3 * size, size))
    b_ih, b_hh = rng.normal(size=(2, 3 * size))
    x, h = rng.normal(size=(2, 5, size))
    gates_x, gates_h = np.split(x @ w.T + b_ih, 3, axis=-1), np.split(h @ u.T + b_hh, 3, axis=-1)
    r, z = sigmoid(gates_x[0] + gates_h[0]), sigmoid(gates_x[1] + gates_h[1])
    expected = (1 - z) * np.tanh(gates_x[2] + r * gates_h[2]) + z * h

    joined = b_ih + np.concatenate([b_hh[: 2 * size], np.zeros(size)])
    with jax.enable_x64(True):
        cell = eqx.tree_at(
            lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n),
            random_team(0).agent.cell,
            tuple(map(jnp.asarray, (w, u, joined, b_hh[2 * size :]))),
        )
        np.testing.assert_allclose(networks.gru(cell, jnp.asarray(h), jnp.asarray(x)), expected, rtol=1e-12)


# The layout


def test_the_page_lists_every_array_with_its_shape():
    sizes = {
        "O": SPEC.obs_size,
        "N": SPEC.n_agents,
        "A": SPEC.n_actions,
        "S": SPEC.state_size,
        "H": SMALL.hidden,
        "M": SMALL.embedding,
        "E": SMALL.hyper,
        "K": 2,
    }
    listed = {}
    for name, shape in re.findall(r"^\| `((?:agent|mixer|ratio)\.[\w.]+)` \| `\[([^\]]+)\]`", PAGE.read_text(), re.M):
        listed[name] = tuple(eval(part.replace("·", "*"), {}, sizes) for part in shape.split(","))
    parts = {"policy": True, "value": True, "critics": 2, "ratio": True}
    teams = [random_team(0, mixer=mixer, **parts) for mixer in ("qmix", "linear", "vdn")]
    assert listed == {name: array.shape for team in teams for name, array in pytree_files.names(team).items()}


@pytest.mark.slow
def test_the_page_s_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S))
    exec(compile(code, str(PAGE), "exec"), {})


def test_networks_follow_their_key():
    make = eqx.filter_jit(lambda key: learner.init(SMALL, SPEC, key).team)
    same, other = make(jax.random.key(1)), make(jax.random.key(2))
    assert eqx.tree_equal(make(jax.random.key(1)), same)
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(other), strict=True):
        assert not np.array_equal(a, b)


def test_vdn_adds_and_has_no_parameters():
    team = random_team(0, mixer="vdn")
    assert jax.tree.leaves(team.mixer) == []
    state, q = jnp.ones((2, SPEC.state_size)), jnp.array([[1.0, 2.0, -4.0], [0.5, 0.0, 0.25]])
    np.testing.assert_allclose(mixers.mix(mixers.weights_at(team.mixer, state), q), [-1.0, 0.75])


# What every mixer and every agent must keep to


@eqx.filter_jit
def mixed_and_slope(mixer, state, q):
    weights = mixers.weights_at(mixer, state)
    return jax.value_and_grad(lambda q: mixers.mix(weights, q))(q)


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_q_tot_increases_in_every_utility(mixer, data):
    number = st.floats(-20, 20, width=32)
    team = random_team(data.draw(st.integers(0, 2**31 - 1)), mixer=mixer)
    state = jnp.asarray(data.draw(st.lists(number, min_size=3, max_size=3)))
    q = jnp.asarray(data.draw(st.lists(number, min_size=3, max_size=3)))
    raised = q.at[data.draw(st.integers(0, 2))].add(data.draw(st.floats(0, 20, width=32)))
    before, slope = mixed_and_slope(team.mixer, state, q)
    after, _ = mixed_and_slope(team.mixer, state, raised)
    assert (slope >= 0).all()
    assert after >= before - 1e-4 * max(1.0, abs(float(before)))


def test_the_greedy_joint_action_is_the_best_joint_action():
    """Because mixing is monotone, each agent's own maximum is the maximum over all A^N joint actions."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        mixer = random_team(seed).mixer
        q = jnp.asarray(rng.normal(size=(SPEC.n_agents, SPEC.n_actions)), jnp.float32)
        weights = mixers.weights_at(mixer, jnp.asarray(rng.normal(size=SPEC.state_size), jnp.float32))
        joint = np.indices((SPEC.n_actions,) * SPEC.n_agents).reshape(SPEC.n_agents, -1).T
        chosen = jax.vmap(networks.chosen, in_axes=(None, 0))(q, jnp.asarray(joint))
        totals = jax.vmap(mixers.mix, in_axes=(None, 0))(weights, chosen)
        greedy = mixers.mix(weights, q.max(axis=-1))
        np.testing.assert_allclose(greedy, totals.max(), rtol=1e-6)


def test_an_agent_sees_neither_the_future_nor_the_others():
    rng = np.random.default_rng(0)
    agent, episode = random_team(0).agent, random_episode(rng, 6)
    base = np.asarray(unroll(agent, as_jax(episode)).q)
    t, i = 3, 1

    obs = episode.obs.copy()
    obs[t, i] += 1
    changed = np.asarray(unroll(agent, as_jax(episode._replace(obs=obs))).q) != base
    assert changed[t:, i].all() and not changed[:t].any() and not changed[:, [0, 2]].any()

    action = episode.action.copy()
    action[t, i] = (action[t, i] + 1) % SPEC.n_actions
    changed = np.asarray(unroll(agent, as_jax(episode._replace(action=action))).q) != base
    assert changed[t + 1 :, i].all() and not changed[: t + 1].any() and not changed[:, [0, 2]].any()


def test_last_actions_are_the_actions_before_each_row():
    action, none = jnp.array([[2, 0], [1, 1]]), [[0, 0, 0], [0, 0, 0]]
    expected = [none, [[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]]]
    np.testing.assert_array_equal(networks.last_actions(action, jnp.array([True, True]), 3), expected)
    expected[1] = none  # another episode's first row
    np.testing.assert_array_equal(networks.last_actions(action, jnp.array([False, True]), 3), expected)


def test_an_episode_after_another_is_unrolled_as_if_it_were_alone():
    agent, rng = random_team(0).agent, np.random.default_rng(0)
    first, second = (random_episode(rng, n, padding=3.0) for n in (2, 3))
    joined = Episode(*(np.concatenate([a[:3], b[:4]]) for a, b in zip(first, second, strict=True)))
    joined = joined._replace(**{name: getattr(joined, name)[:6] for name in ("action", "reward", "terminal", "valid")})
    np.testing.assert_array_equal(joined.valid, [True, True, False, True, True, True])
    alone = [unroll(agent, as_jax(episode)).q[:rows] for episode, rows in ((first, 3), (second, 4))]
    np.testing.assert_allclose(unroll(agent, as_jax(joined)).q, np.concatenate(alone), atol=1e-6)


def test_stepping_equals_unrolling():
    agent, episode = random_team(0).agent, as_jax(random_episode(np.random.default_rng(0), 6))
    hidden, rows = networks.first_hidden(agent, SPEC.n_agents), []
    last = networks.last_actions(episode.action, episode.valid, SPEC.n_actions)
    for t in range(SPEC.episode_limit + 1):
        hidden, heads = networks.agent_step(agent, hidden, episode.obs[t], last[t])
        rows.append(heads.q)
    np.testing.assert_allclose(np.stack(rows), unroll(agent, episode).q, atol=1e-6)


def test_agents_share_one_network_but_know_who_they_are():
    agent = random_team(0).agent
    obs = jnp.ones((SPEC.n_agents, SPEC.obs_size))
    none = jnp.zeros((SPEC.n_agents, SPEC.n_actions))
    q = networks.agent_step(agent, networks.first_hidden(agent, SPEC.n_agents), obs, none)[1].q
    assert len(np.unique(np.asarray(q).round(6), axis=0)) == SPEC.n_agents
    blind = eqx.tree_at(
        lambda a: a.encoder.weight,
        agent,
        agent.encoder.weight.at[:, SPEC.obs_size : SPEC.obs_size + SPEC.n_agents].set(0.0),
    )
    q = networks.agent_step(blind, networks.first_hidden(agent, SPEC.n_agents), obs, none)[1].q
    np.testing.assert_allclose(q, np.broadcast_to(q[:1], q.shape), atol=1e-6)


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_fresh_networks_are_uniform_within_their_bounds(mixer):
    """As Equinox initialises its own layers: ± 1/√(inputs), for the recurrent layer ± 1/√H, weights and biases."""
    sizes = {"hidden": 64, "embedding": 32, "hyper": 48}
    make = eqx.filter_jit(lambda key: networks.make_team(SPEC, networks.Parts(mixer), **sizes, key=key))
    team, other = make(jax.random.key(0)), make(jax.random.key(1))
    layers = jax.tree.leaves(team, is_leaf=lambda x: isinstance(x, eqx.nn.Linear | eqx.nn.GRUCell))
    assert len(layers) == {"qmix": 10, "linear": 7, "vdn": 3}[mixer]
    for layer in layers:
        inputs = layer.hidden_size if isinstance(layer, eqx.nn.GRUCell) else layer.in_features
        numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves(layer)]) * np.sqrt(inputs)
        assert np.abs(numbers).max() <= 1.0
        assert np.abs(numbers.mean()) < 4 / np.sqrt(3 * len(numbers))  # four standard errors
        if len(numbers) > 200:
            assert numbers.std() == pytest.approx(1 / np.sqrt(3), rel=0.15)
    for a, b in zip(jax.tree.leaves(team), jax.tree.leaves(other), strict=True):
        assert (np.asarray(a) != np.asarray(b)).any()


# Networks of agents of different kinds


@pytest.mark.parametrize("kinds", [(0, 1, 0), (0, 1, 2)])
def test_an_agent_has_the_network_of_its_kind(kinds):
    """Agent i says what it would in a team that shares the network of its kind, and learns that one alone."""
    config = dataclasses.replace(SMALL, parameters="per_kind", kinds=",".join(map(str, kinds)))
    agent, shared = random_team(3, config=config).agent, random_team(3).agent
    episode = as_jax(random_episode(np.random.default_rng(0), 6))
    utilities = jax.jit(lambda agent: unroll(agent, episode).q)
    found, gradient = utilities(agent), jax.jit(jax.jacrev(lambda agent: utilities(agent).sum(axis=(0, 2))))(agent)
    for i, kind in enumerate(kinds):
        alone = jax.tree.unflatten(jax.tree.structure(shared), [x[kind] for x in jax.tree.leaves(agent)])
        np.testing.assert_allclose(found[:, i], utilities(alone)[:, i], atol=1e-6)
        moved = np.abs(gradient.cell.weight_ih[i]).sum(axis=(1, 2)) > 0
        assert moved.tolist() == [k == kind for k in range(1 + max(kinds))]


def test_fresh_networks_of_kinds_differ_and_fill_their_range():
    make = eqx.filter_jit(
        lambda key: networks.make_team(SPEC, hidden=64, embedding=4, hyper=6, key=key, kinds=(0, 1, 1))
    )
    weight = np.asarray(make(jax.random.key(0)).agent.cell.weight_hh)
    assert weight.shape == (2, 3 * 64, 64) and not np.allclose(weight[0], weight[1])
    assert 0.12 < np.abs(weight).max() <= 1 / 8
