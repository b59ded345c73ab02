"""Targets and regularisers against brute force: by hand, step by step, or over all joint actions."""

import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from scipy.special import logsumexp
from support.episodes import SPEC, as_jax, close, in_float64, random_avail, random_episode, random_team

from ovmse.core import values
from ovmse.core.mixers import mix, weights_at
from ovmse.core.networks import chosen, unroll

GAMMA = 0.9
T, N, A = SPEC.episode_limit, SPEC.n_agents, SPEC.n_actions


# Targets


def test_td_target_by_hand():
    """Only a terminal step drops the bootstrap: the last step here was cut by a time limit."""
    reward, terminal = jnp.array([1.0, -2.0, 0.5]), jnp.array([False, True, False])
    target = values.td_target(reward, terminal, jnp.array([10.0, 20.0, -30.0]), GAMMA)
    np.testing.assert_allclose(target, [1.0 + 9.0, -2.0, 0.5 - 27.0], rtol=1e-6)


lambda_return = jax.jit(values.lambda_return, static_argnums=(4, 5))
mixed = eqx.filter_jit(lambda mixer, state, q: mix(weights_at(mixer, state), q))


def brute_lambda_return(reward, ends_terminal, q, gamma, lam):
    """The λ-weighted sum of the n-step returns of an episode of len(reward) steps."""
    steps = len(reward)
    bootstrap = [*q[:-1], 0.0 if ends_terminal else q[-1]]  # the value after step t
    out = []
    for t in range(steps):

        def n_step(n, t=t):
            return sum(gamma**k * reward[t + k] for k in range(n)) + gamma**n * bootstrap[t + n - 1]

        most = steps - t
        out.append(
            (1 - lam) * sum(lam ** (n - 1) * n_step(n) for n in range(1, most)) + lam ** (most - 1) * n_step(most)
        )
    return np.array(out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    length=st.integers(1, T),
    ends=st.sampled_from(["terminal", "truncated"]),
    factors=st.sampled_from([(0.99, 0.6), (0.5, 1.0), (1.0, 0.3), (0.9, 0.0)]),
)
def test_lambda_return_is_the_weighted_sum_of_n_step_returns(seed, length, ends, factors):
    gamma, lam = factors
    rng = np.random.default_rng(seed)
    e = random_episode(rng, length, ends=ends, padding=1e3)
    q = rng.normal(size=T).astype(np.float32) * 10
    steps = tuple(map(jnp.asarray, (e.reward, e.terminal, e.valid, q)))
    found = np.asarray(lambda_return(*steps, gamma, lam))[:length]
    expected = brute_lambda_return(e.reward[:length], ends == "terminal", q[:length], gamma, lam)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    one_step = values.td_target(steps[0], steps[1], steps[3], 0.9)[:length]
    np.testing.assert_allclose(lambda_return(*steps, 0.9, 0.0)[:length], one_step, rtol=1e-5, atol=1e-5)


def test_lambda_1_is_monte_carlo_on_terminal_episodes():
    e = random_episode(np.random.default_rng(0), 4)
    q = jnp.full((T,), 1e3)
    found = lambda_return(*as_jax((e.reward, e.terminal, e.valid)), q, 0.5, 1.0)[:4]
    expected = [sum(0.5**k * e.reward[t + k] for k in range(4 - t)) for t in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_remembered_target_by_hand():
    y, m = jnp.array([1.0, 1.0, -5.0]), jnp.array([3.0, -3.0, -1.0])
    np.testing.assert_allclose(values.memory_target(y, m, jnp.float32(0.25)), [1.5, 1.0, -4.0])
    np.testing.assert_allclose(values.memory_target(y, m, jnp.float32(0.0)), y)
    np.testing.assert_allclose(values.memory_target(y, m, jnp.float32(1.0)), [3.0, 1.0, -1.0])


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=4, max_size=4),
    weight=st.floats(0, 1),
)
def test_one_regression_has_the_gradient_of_the_papers_two_terms(numbers, weight):
    with jax.enable_x64(True):
        q, y, m = jnp.asarray(np.array(numbers).T)
        lam = jnp.asarray(weight, jnp.float64)

        def paper(q):
            return ((1 - lam) * (q - y) ** 2 + lam * (q - jnp.maximum(m, y)) ** 2).sum()

        ours = jax.grad(lambda q: ((q - values.memory_target(y, m, lam)) ** 2).sum())(q)
        np.testing.assert_allclose(ours, jax.grad(paper)(q), rtol=1e-9, atol=1e-9)


# One pass over an episode


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_the_online_network_picks_and_the_slow_one_values(mixer):
    rng = np.random.default_rng(0)
    team, slow = random_team(0, mixer=mixer), random_team(1, mixer=mixer)
    e = as_jax(random_episode(rng, T))
    q, q_slow = np.asarray(unroll(team.agent, e).q), np.asarray(unroll(slow.agent, e).q)
    found = eqx.filter_jit(values.evaluate_episode)(team, slow, e)
    action, avail = np.asarray(e.action), np.asarray(e.avail)
    taken, after = np.zeros((2, T, N), np.float32)
    for t, i in itertools.product(range(T), range(N)):
        taken[t, i] = q[t, i, action[t, i]]
        best = max(np.flatnonzero(avail[t + 1, i]), key=lambda a, i=i, t=t: q[t + 1, i, a])
        after[t, i] = q_slow[t + 1, i, best]
    own_best = np.where(avail, q_slow, -np.inf).max(-1)[1:]
    assert not np.allclose(after, own_best)  # plain Q-learning is told apart
    np.testing.assert_allclose(found.q_tot, mixed(team.mixer, e.state[:-1], jnp.asarray(taken)), atol=1e-5)
    np.testing.assert_allclose(found.next_q_tot, mixed(slow.mixer, e.state[1:], jnp.asarray(after)), atol=1e-5)
    np.testing.assert_allclose(found.q, q[:-1], rtol=1e-6)
    np.testing.assert_allclose(values.taken_q_tot(team, e), found.q_tot, rtol=1e-5)


def test_nothing_is_learned_through_the_slow_network_or_the_choice():
    team, slow, e = random_team(0), random_team(1), as_jax(random_episode(np.random.default_rng(0), T))

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(both):
        return values.evaluate_episode(*both, e).next_q_tot.sum()

    assert all((g == 0).all() for g in jax.tree.leaves(slope((team, slow))))


# Conservative Q-learning


def utilities(seed, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    q, avail = rng.normal(size=(T, N, A)) * 3, random_avail(rng, (T, N, A))
    action = np.where(avail, rng.random(avail.shape), -1).argmax(-1)
    return jnp.asarray(q, dtype), jnp.asarray(avail), jnp.asarray(action, jnp.int32)


def mixing(seed, mixer):
    team = random_team(seed, mixer=mixer)
    state = jnp.asarray(np.random.default_rng(seed).normal(size=(T, SPEC.state_size)))
    return weights_at(in_float64(team).mixer, state)


def at(weights, t):
    return jax.tree.map(lambda x: x[t], weights)


def joint_q_tot(weights, q, t, joint):
    """Q_tot at step t of one joint action, straight through the mixer."""
    return mix_compiled(at(weights, t), jnp.asarray([np.asarray(q)[t, i, a] for i, a in enumerate(joint)]))


mix_compiled = jax.jit(mix)


def legal(avail, t, i):
    return [int(a) for a in np.flatnonzero(np.asarray(avail[t, i]))]


def replaced(action, t, i, a):
    return [a if j == i else int(u) for j, u in enumerate(action[t])]


def test_cql_per_agent_by_brute_force():
    with jax.enable_x64(True):
        q, avail, action = utilities(0)
        expected = [
            sum(logsumexp([q[t, i, a] for a in legal(avail, t, i)]) - q[t, i, action[t, i]] for i in range(N)) / N
            for t in range(T)
        ]
        np.testing.assert_allclose(values.cql_per_agent(q, avail, action), expected, rtol=1e-9)


def test_cql_per_agent_pushes_by_the_softmax_over_legal_actions():
    with jax.enable_x64(True):
        q, avail, action = utilities(1)
        slope = jax.grad(lambda q: values.cql_per_agent(q, avail, action).sum())(q)
        weight = np.where(avail, np.exp(np.asarray(q)), 0.0)
        expected = weight / weight.sum(-1, keepdims=True) - np.eye(A)[np.asarray(action)]
        np.testing.assert_allclose(slope, expected / N, atol=1e-12)


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_cql_joint_by_brute_force_over_all_joint_actions(mixer):
    """With every joint action as a sample once, and the data's once more."""
    with jax.enable_x64(True):
        q, avail, action = utilities(0)
        weights = mixing(0, mixer)
        joint = list(itertools.product(range(A), repeat=N))
        sampled = jnp.broadcast_to(jnp.asarray(joint)[:, None], (len(joint), T, N))
        found = values.cql_joint(weights, q, avail, action, sampled)
        for t in range(T):
            taken = float(joint_q_tot(weights, q, t, action[t]))
            everything = [float(joint_q_tot(weights, q, t, u)) for u in joint]
            np.testing.assert_allclose(found[t], logsumexp([*everything, taken]) - taken, rtol=1e-9)


def test_sampled_joint_actions_are_legal_and_uniform():
    _, avail, _ = utilities(3, jnp.float32)
    sampled = np.asarray(jax.jit(values.sample_joint, static_argnums=2)(jax.random.key(0), avail, 4000))
    assert sampled.shape == (4000, T, N)
    for t, i in itertools.product(range(T), range(N)):
        counts = np.bincount(sampled[:, t, i], minlength=A)
        choices = legal(avail, t, i)
        assert counts[choices].sum() == 4000
        assert len(choices) == 1 or stats.chisquare(counts[choices]).pvalue > 1e-4


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_counterfactual_q_tot_equals_mixing_every_replacement(mixer):
    with jax.enable_x64(True):
        q, _, action = utilities(0)
        weights = mixing(0, mixer)
        found = values.counterfactual_q_tot(weights, q, action)
        for t, i, a in itertools.product(range(T), range(N), range(A)):
            direct = joint_q_tot(weights, q, t, replaced(action, t, i, a))
            np.testing.assert_allclose(found[t, i, a], direct, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_cql_counterfactual_and_its_gradient_equal_direct_mixing(mixer):
    with jax.enable_x64(True):
        team = in_float64(random_team(0, mixer=mixer))
        e = as_jax(random_episode(np.random.default_rng(0), T, dtype=np.float64))
        avail = e.avail[:-1]

        def ours(team):
            weights = weights_at(team.mixer, e.state[:-1])
            return values.cql_counterfactual(weights, unroll(team.agent, e).q[:-1], avail, e.action)

        def direct(team):
            weights, q = weights_at(team.mixer, e.state[:-1]), unroll(team.agent, e).q[:-1]
            others = jnp.arange(A)[:, None, None] * jnp.ones((1, T, N), jnp.int32)  # [A, T, N]: all play a
            per_agent = []
            for i in range(N):
                swapped = jnp.where(jnp.arange(N) == i, others, e.action)
                totals = jnp.stack([mix(weights, chosen(q, u)) for u in swapped], axis=-1)  # [T, A]
                largest = jax.nn.logsumexp(totals, axis=-1, where=avail[:, i])
                per_agent.append(largest - mix(weights, chosen(q, e.action)))
            return sum(per_agent) / N

        np.testing.assert_allclose(ours(team), direct(team), rtol=1e-9)
        gradients = [eqx.filter_jit(eqx.filter_grad(lambda x, f=f: f(x).sum()))(team) for f in (ours, direct)]
        close(*gradients, 1e-9)


@pytest.mark.parametrize("form", ["per_agent", "joint", "counterfactual"])
def test_regularisers_are_positive_and_finite_even_where_nothing_is_legal(form):
    q, avail, action = utilities(0, jnp.float32)
    weights = weights_at(random_team(0).mixer, jnp.ones((T, SPEC.state_size)))
    if form == "joint":
        found = values.cql_joint(weights, q, avail, action, values.sample_joint(jax.random.key(0), avail, 3))
    elif form == "per_agent":
        found = values.cql_per_agent(q, avail, action)
    else:
        found = values.cql_counterfactual(weights, q, avail, action)
    assert (found >= -1e-5).all()  # the data's action is among those of the logsumexp
    padding = values.mask_illegal(q, avail & False)
    assert np.isfinite(jax.nn.logsumexp(padding, axis=-1)).all()
