"""Exploration: always legal, uniform where it is random, and one agent at a time where it is sequential."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from support.episodes import random_avail

from ovmse.core import action_selection

EXPLORERS = [action_selection.epsilon_greedy, action_selection.sequential, action_selection.independent]
DRAWS = 20_000
LIKELY = 1e-3  # keys are fixed, so a test that passes once passes always


compiled = {f: jax.jit(jax.vmap(f, in_axes=(0, None, None, None))) for f in EXPLORERS}


def draws(function, q, avail, epsilon, seed=0, count=DRAWS):
    """Joint actions [count, N] of one step under different keys."""
    keys = jax.random.split(jax.random.key(seed), count)
    args = jnp.asarray(q, jnp.float32), jnp.asarray(avail), jnp.float32(epsilon)
    return np.asarray(compiled[function](keys, *args))


def everything(n, a):
    return np.ones((n, a), bool)


@pytest.mark.parametrize("function", EXPLORERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_illegal_actions_are_never_chosen(function, seed):
    rng = np.random.default_rng(seed)
    avail = random_avail(rng, (4, 5))
    q = np.where(avail, -1e6, 1e6) * rng.random((4, 5))  # illegal actions look best
    for epsilon in (0.5, 1.0):
        assert avail[np.arange(4), draws(function, q, avail, epsilon, seed, 1000)].all()
    best = np.where(avail, q, -np.inf).argmax(-1)
    np.testing.assert_array_equal(draws(function, q, avail, 0.0, count=1000), np.broadcast_to(best, (1000, 4)))


def test_greedy_takes_the_best_legal_action():
    q = jnp.array([[5.0, 9.0, 1.0], [-3.0, -2.0, -1.0]])
    avail = jnp.array([[True, False, True], [True, True, False]])
    np.testing.assert_array_equal(action_selection.greedy(q, avail), [0, 1])


def test_random_actions_are_uniform_over_the_legal_ones():
    avail = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]], bool)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    actions = np.asarray(jax.vmap(action_selection.random_legal, in_axes=(0, None))(keys, jnp.asarray(avail)))
    for i, legal in enumerate(avail):
        counts = np.bincount(actions[:, i], minlength=5)
        assert (counts[~legal] == 0).all()
        assert legal.sum() == 1 or stats.chisquare(counts[legal]).pvalue > LIKELY
    joint = np.unique(actions[:, :2], axis=0, return_counts=True)[1]
    assert len(joint) == 15 and stats.chisquare(joint).pvalue > LIKELY  # agents draw independently


def test_sequential_exploration_moves_one_agent_drawn_uniformly():
    n, a, epsilon = 4, 5, 0.7
    q = np.zeros((n, a))
    q[:, 2] = 1.0
    avail = everything(n, a)
    avail[0, 4] = avail[3, :2] = False
    actions = draws(action_selection.sequential, q, avail, epsilon)
    moved = actions != 2
    assert moved.sum(axis=1).max() == 1
    # agent i's turn comes with ε/N, and each of its legal actions is as likely
    counts, expected = [int((~moved.any(axis=1)).sum())], [0.0]
    for i, action in itertools.product(range(n), range(a)):
        if action != 2 and avail[i, action]:
            counts.append(int((actions[:, i] == action).sum()))
            expected.append(DRAWS * epsilon / n / avail[i].sum())
    expected[0] = DRAWS - sum(expected)
    assert stats.chisquare(counts, expected).pvalue > LIKELY


def test_sequential_exploration_reaches_n_times_a_minus_1_plus_1_joint_actions():
    n, a = 4, 5
    q = np.random.default_rng(0).normal(size=(n, a))
    greedy = q.argmax(-1)
    reached = {tuple(u) for u in draws(action_selection.sequential, q, everything(n, a), 1.0)}
    near = {u for u in itertools.product(range(a), repeat=n) if (np.array(u) != greedy).sum() <= 1}
    assert reached == near and len(reached) == n * (a - 1) + 1
    assert len({tuple(u) for u in draws(action_selection.epsilon_greedy, q, everything(n, a), 1.0)}) == a**n


@pytest.mark.parametrize("function", EXPLORERS)
def test_an_agent_can_derive_its_action_alone(function):
    """Given the shared key, agent i's action depends on its own utilities and legal actions, on nobody else's."""
    rng = np.random.default_rng(0)
    n, a, i = 4, 5, 2
    q, avail = rng.normal(size=(n, a)), random_avail(rng, (n, a))
    others_q, others_avail = rng.normal(size=(n, a)), random_avail(rng, (n, a))
    others_q[i], others_avail[i] = q[i], avail[i]
    mine = draws(function, q, avail, 0.8)
    theirs = draws(function, others_q, others_avail, 0.8)
    np.testing.assert_array_equal(mine[:, i], theirs[:, i])
    assert not np.array_equal(mine, theirs)
    np.testing.assert_array_equal(mine, draws(function, q, avail, 0.8))


def test_the_independent_form_has_the_same_rate_per_agent_but_explorers_meet():
    n, a = 5, 50
    q = np.zeros((n, a))
    q[:, 7] = 1.0
    moves = (1 - 1 / a) / n  # an explorer draws the greedy action once in A
    independent = draws(action_selection.independent, q, everything(n, a), 1.0) != 7
    sequential = draws(action_selection.sequential, q, everything(n, a), 1.0) != 7
    for i in range(n):
        assert stats.binomtest(int(independent[:, i].sum()), DRAWS, moves).pvalue > LIKELY
        assert stats.binomtest(int(sequential[:, i].sum()), DRAWS, moves).pvalue > LIKELY
    several = 1 - stats.binom.cdf(1, n, moves)
    assert several == pytest.approx(0.26, abs=0.01)
    assert stats.binomtest(int((independent.sum(axis=1) > 1).sum()), DRAWS, several).pvalue > LIKELY


def test_epsilon_greedy_explores_each_agent_with_epsilon():
    n, a, epsilon = 4, 5, 0.3
    q = np.zeros((n, a))
    q[:, 1] = 1.0
    moved = draws(action_selection.epsilon_greedy, q, everything(n, a), epsilon) != 1
    rate = epsilon * (1 - 1 / a)
    counts = np.bincount(moved @ (1 << np.arange(n)), minlength=2**n)
    expected = [rate ** bin(k).count("1") * (1 - rate) ** (n - bin(k).count("1")) * DRAWS for k in range(2**n)]
    assert stats.chisquare(counts, expected).pvalue > LIKELY
