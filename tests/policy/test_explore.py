"""Exploring in the field: its rates are exact, its probabilities are those, and agents alone agree with their team."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import chisquare
from support.episodes import SPEC, random_avail
from support.policies import write_run

import ovmse
from ovmse.policy.explore import shared_draws

N, A, F = SPEC.n_agents, SPEC.n_actions, SPEC.obs_size
EPSILON, MANY = 0.4, 20_000


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "run"
    write_run(folder, "ovmse")
    return ovmse.load(folder)


def explored(team, obs, avail, **more):
    """The same row in many episodes: greedy actions [N], actions [MANY, N] and their probabilities."""
    many = [np.broadcast_to(x, (MANY, *x.shape)) for x in (obs, avail)]
    action, _, probability = team.explore(*many, epsilon=EPSILON, seed=3, episode=np.arange(MANY), **more)
    return team.act(obs, avail)[0], action, probability


def test_the_rates_are_those_that_are_told(team):
    rng = np.random.default_rng(0)
    obs, avail = rng.normal(size=(N, F)), random_avail(rng, (N, A))
    avail[0] = True
    greedy, action, probability = explored(team, obs, avail)
    assert ((action != greedy).sum(-1) <= 1).all()  # one at a time
    for i in range(N):
        counts = np.bincount(action[:, i], minlength=A)
        told = {a: probability[action[:, i] == a, i] for a in range(A) if counts[a]}
        assert all(len(set(p.tolist())) == 1 for p in told.values())
        assert set(told) == set(np.flatnonzero(avail[i]))
        expected = np.array([told[a][0] for a in told])
        assert expected.sum() == pytest.approx(1.0)
        if len(told) > 1:
            assert chisquare(counts[list(told)], MANY * expected).pvalue > 1e-4
        others = EPSILON / N / avail[i].sum()
        assert told[greedy[i]][0] == pytest.approx(1 - EPSILON / N + others)
        assert all(p[0] == pytest.approx(others) for a, p in told.items() if a != greedy[i])


def test_what_may_not_be_explored_never_is(team):
    obs, avail = np.random.default_rng(1).normal(size=(N, F)), np.ones((N, A), bool)
    may = np.ones((N, A), bool)
    may[0, 2], may[1] = False, False
    greedy, action, probability = explored(team, obs, avail, may_explore=np.broadcast_to(may, (MANY, N, A)))
    assert greedy[0] == 2 or not (action[:, 0] == 2).any()
    assert (action[:, 1] == greedy[1]).all() and (probability[:, 1] == 1.0).all()
    odd = action[:, 0] != greedy[0]
    assert odd.any() and np.allclose(probability[odd, 0], EPSILON / N / 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63), episode=st.integers(0, 2**40), epsilon=st.floats(0, 0.5))
def test_agents_alone_choose_what_the_team_does(team, seed, episode, epsilon):
    rng, memory, memories = np.random.default_rng(episode), None, dict.fromkeys(team.names)
    how = {"epsilon": epsilon, "seed": seed, "episode": episode}
    for _ in range(6):
        obs, avail, may = rng.normal(size=(N, F)), random_avail(rng, (N, A)), random_avail(rng, (N, A))
        action, memory, probability = team.explore(obs, avail, memory, may_explore=may, **how)
        assert avail[np.arange(N), action].all() and (probability > 0).all() and (probability <= 1).all()
        for i, name in enumerate(team.names):
            alone = team.agent(name)
            own, memories[name], told = alone.explore(obs[i], avail[i], memories[name], may_explore=may[i], **how)
            assert own == action[i] and told == probability[i]


def test_the_probability_of_a_joint_action_can_be_told_from_those_of_its_agents(team):
    """As docs/deploy.md says: the smallest where somebody explored, else 1 − Σ (1 − p)."""
    obs, avail = np.random.default_rng(2).normal(size=(N, F)), np.ones((N, A), bool)
    greedy, action, probability = explored(team, obs, avail)
    odd = (action != greedy).any(-1)
    joint = np.where(odd, probability.min(-1), 1 - (1 - probability).sum(-1))
    kinds, first, counts = np.unique(action, axis=0, return_index=True, return_counts=True)
    assert len(kinds) == N * (A - 1) + 1
    assert joint[first].sum() == pytest.approx(1.0)
    assert chisquare(counts, MANY * joint[first]).pvalue > 1e-4


def test_without_epsilon_it_acts_as_ever_and_more_than_half_is_refused(team):
    obs = np.random.default_rng(3).normal(size=(7, N, F))
    action, _, probability = team.explore(obs, epsilon=0.0, seed=0, episode=np.arange(7))
    assert np.array_equal(action, team.act(obs)[0]) and (probability == 1.0).all()
    with pytest.raises(ValueError, match=r"epsilon must lie between 0 and 0\.5; got 0\.6"):
        team.explore(obs, epsilon=0.6, seed=0, episode=np.arange(7))
    with pytest.raises(ValueError, match="episode: expected one number for each"):
        team.explore(obs, epsilon=0.1, seed=0, episode=4)


def test_the_shared_draws_stay_what_they_are():
    """Agents of different machines and years must agree: these numbers never change."""
    found = shared_draws(7, [0, 1], np.array([0, 3]))
    known = [[0.87207345482, 0.093118962204], [0.295365381514, 0.362020331008], [0.420097678507, 0.91836671629]]
    np.testing.assert_array_equal(np.round(found, 12), known)
