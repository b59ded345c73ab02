"""Agents that are dead, gone or padded count nowhere: in no loss, no maximum, and no turn to explore."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.episodes import SPEC, as_jax, inputs_of, random_avail, random_episode, random_team

from ovmse.core import action_selection, values
from ovmse.core.mixers import weights_at
from ovmse.core.padding import NO_OP, out_of_play, present
from ovmse.core.types import Observation
from ovmse.learning.rollout import Teams, act, start_acting
from ovmse.methods import METHODS
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method
from ovmse.methods.signatures import ActionInputs, PolicyOutput

N, A, LIMIT = SPEC.n_agents, SPEC.n_actions, SPEC.episode_limit
CQLS = {form: Method(offline_loss=CQL(form=form)) for form in ("joint", "counterfactual")}  # losses that no method has
CASES = dict(METHODS) | CQLS


def distinct(parts):
    """The names of methods, one for each that differ in some parts."""
    return list({repr([getattr(method, part) for part in parts]): name for name, method in CASES.items()}.values())


LEARNING = distinct(("offline_loss", "online_loss", "next_value", "memory", "priority", "parts"))
EXPLORING = distinct(("explore", "acting_utilities"))


def episode_with_absent(seed, absent):
    """An episode in which the agents marked [T+1, N] are out of play, and do nothing."""
    episode = random_episode(np.random.default_rng(seed), LIMIT)
    obs, avail = out_of_play(episode.obs, episode.avail, absent)
    return episode._replace(obs=obs, avail=avail, action=np.where(absent[:-1], 0, episode.action))


def absences(seed):
    """Agents die one after another, some were never there, and some come back: but one is always in play."""
    absent = np.random.default_rng(seed).random((LIMIT + 1, N)) < 0.4
    absent[:, seed % N] = False
    return absent


def loss_parts(method):
    return [loss for loss in (method.offline_loss, method.online_loss) if loss is not None]


@cache
def learned_from(name):
    """What every part of a method makes of an episode, as a compiled function of the episode and of noise that is
    added to all that the networks say of each row [T+1, N]."""
    method = CASES[name]
    kinds = {k: getattr(method.parts, k) for k in ("policy", "value", "critics", "normalise", "ratio", "behaviour")}
    team, slow = (random_team(i, mixer=method.parts.mixer, **kinds) for i in (0, 1))
    unrolled = values.unroll

    def parts_of(episode, noise):
        def noisy(agent, e):
            return jax.tree.map(lambda x: x + noise.reshape(*noise.shape, *[1] * (x.ndim - 2)), unrolled(agent, e))

        values.unroll = noisy
        try:
            inputs = inputs_of(team, slow, episode, td_lambda=0.5, next_value=method.next_value)
            found = [loss(inputs) for loss in loss_parts(method)]
            if method.memory is not None:
                found.append(method.memory(team, episode))
            return [*found, inputs.td_target, *([method.priority(inputs)] if method.priority else [])]
        finally:
            values.unroll = unrolled

    return jax.jit(parts_of)


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_said_of_absent_agents_changes_no_loss_and_no_target(name):
    for seed in range(4):
        absent = absences(seed)
        episode = as_jax(episode_with_absent(seed, absent))
        noise = jnp.asarray(np.random.default_rng(seed).normal(size=absent.shape) * 5, jnp.float32)
        before, after = (learned_from(name)(episode, jnp.where(absent, noise * on, 0.0)) for on in (0.0, 1.0))
        for old, new in zip(before, after, strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["offline", "omiga"])
def test_what_is_said_of_agents_in_play_does_change_losses(name):
    episode = as_jax(episode_with_absent(0, absences(0)))
    before, after = (learned_from(name)(episode, jnp.full((LIMIT + 1, N), on)) for on in (0.0, 1.0))
    assert not np.allclose(before[0], after[0], atol=1e-2)


def without_last_agent(team):
    """A team's networks for one agent less, who was the last."""
    columns = np.delete(np.arange(SPEC.obs_size + N + A), SPEC.obs_size + N - 1)
    team = eqx.tree_at(lambda t: t.agent.encoder.weight, team, team.agent.encoder.weight[:, columns])
    last = team.mixer.w1 if hasattr(team.mixer, "w1") else team.mixer.w
    keep = last[1].weight.shape[0] // N * (N - 1)
    smaller = eqx.tree_at(lambda m: (m.weight, m.bias), last[1], (last[1].weight[:keep], last[1].bias[:keep]))
    where = (lambda t: t.mixer.w1[1]) if hasattr(team.mixer, "w1") else (lambda t: t.mixer.w[1])
    team = eqx.tree_at(where, team, smaller)
    if team.ratio is None:
        return team
    first = team.ratio.layers[0].weight
    return eqx.tree_at(lambda t: t.ratio.layers[0].weight, team, first[:, : first.shape[1] - A])


@pytest.mark.parametrize("name", sorted({*LEARNING} - {"joint", "balanced"}))  # one draws, one sees u
def test_an_agent_that_is_never_there_changes_no_loss(name):
    """Neither by its own terms nor by the number of agents that means are taken over."""
    method = CASES[name]
    kinds = {k: getattr(method.parts, k) for k in ("policy", "value", "critics", "normalise", "ratio", "behaviour")}
    absent = np.zeros((LIMIT + 1, N), bool)
    absent[:, -1] = True
    absent[3:, 0] = True
    episode = episode_with_absent(1, absent)
    fewer = episode._replace(obs=episode.obs[:, :-1], avail=episode.avail[:, :-1], action=episode.action[:, :-1])
    teams = [random_team(i, mixer=method.parts.mixer, **kinds) for i in (0, 1)]
    target = jnp.asarray(np.random.default_rng(2).normal(size=LIMIT), jnp.float32)
    for loss in loss_parts(method):
        judge = jax.jit(lambda teams, e: loss(inputs_of(*teams, e, td_target=target)))  # noqa: B023
        here, there = judge(teams, as_jax(episode)), judge([without_last_agent(t) for t in teams], as_jax(fewer))
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


# Exploration


def action_inputs(seed, avail, obs, noise):
    """What a choice of actions is given, noise [N] being added to all that is said of each agent."""
    rng = np.random.default_rng(seed)
    state, outputs = jnp.asarray(rng.normal(size=SPEC.state_size), jnp.float32), []
    for i in range(2):
        critics = jnp.asarray(rng.normal(size=(N, 1, A)) + noise[:, None, None], jnp.float32)
        weights = weights_at(random_team(i).mixer, state, present(obs, avail))
        outputs.append(PolicyOutput(values.Heads(critics, None), weights))
    online, offline = outputs
    given = jnp.asarray(avail), jnp.int32(0), jnp.float32(0.5), online, offline, jnp.float32(5)
    return ActionInputs(online.heads.q, *given)


@pytest.mark.parametrize("name", EXPLORING)
def test_absent_agents_do_nothing_and_change_nobody_s_action(name):
    explore = jax.jit(CASES[name].explore)
    for seed in range(8):
        absent = absences(seed)[0]
        episode = episode_with_absent(seed, absent * np.ones((LIMIT + 1, 1), bool))
        obs, avail = jnp.asarray(episode.obs[0]), jnp.asarray(episode.avail[0])
        noise = np.where(absent, np.random.default_rng(seed).normal(size=N) * 5, 0.0)
        key = jax.random.key(seed)
        before, after = (np.asarray(explore(key, action_inputs(seed, avail, obs, noise * on))) for on in (0, 1))
        np.testing.assert_array_equal(before, after)
        assert (after[absent] == 0).all()


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=20)
def test_nobody_s_turn_to_explore_depends_on_who_is_out_of_play(absent, seed):
    rng, absent = np.random.default_rng(seed), np.array(absent)
    q, all_here = jnp.asarray(rng.normal(size=(4, A)), jnp.float32), random_avail(rng, (4, A))
    _, avail = out_of_play(np.ones((4, 1)), all_here, absent)
    key, epsilon = jax.random.key(seed), jnp.float32(0.5)
    for explore in (action_selection.epsilon_greedy, action_selection.sequential, action_selection.independent):
        before, after = (np.asarray(explore(key, q, jnp.asarray(legal), epsilon)) for legal in (all_here, avail))
        np.testing.assert_array_equal(before[~absent], after[~absent])
        assert (after[absent] == NO_OP).all()


def test_a_team_that_plays_weighs_only_who_is_in_play():
    absent = np.array([[False, True, False]])
    obs, avail = out_of_play(np.ones((1, N, SPEC.obs_size), np.float32), np.ones((1, N, A), bool), absent)
    seen = Observation(jnp.asarray(obs), jnp.ones((1, SPEC.state_size)), jnp.asarray(avail))
    teams, one, keys = Teams(random_team(0)), jnp.float32(1), jax.random.split(jax.random.key(0), 1)

    def who_weighs_nothing(key, inputs):
        return (inputs.online.weights.w1 == 0).all(axis=-1).astype(jnp.int32)

    _, told = act(teams, SPEC, who_weighs_nothing, keys, jnp.int32(0), start_acting(teams, SPEC, 1), seen, one, one)
    np.testing.assert_array_equal(told, absent)
