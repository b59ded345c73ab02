"""Rollouts: rows and steps line up, episodes end as they should, and acting equals unrolling."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import random_team

from ovmse import envs
from ovmse.core import action_selection
from ovmse.core.networks import unroll
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.learning.rollout import Teams, act, collect, collect_host, rollout_shapes, start_acting

LIMIT, CUT = 6, 5  # the padded length, and where the walk's own time limit cuts it
SPEC = EnvSpec("test:walk", "1", {}, 2, 3, 4, 3, LIMIT, True)
B = 16


class WalkState(NamedTuple):
    """row, place, and the step at which the walk ends by itself (later than the limit: it is cut)."""

    t: jax.Array
    place: jax.Array
    end: jax.Array


def view_of(t, place, end, np=jnp):
    """All that there is: every agent sees the state and its index; action (t + i) mod 3 is not legal."""
    state = np.asarray([t, place, end], np.float32)
    obs = np.stack([np.concatenate([state, np.asarray([i], np.float32)]) for i in range(2)])
    avail = np.stack([(np.arange(3) + 3 - i - t) % 3 != 0 for i in range(2)])
    return Observation(obs, state, avail)


class Walk:
    """Both agents push; the reward is the new place; it is won if it ends by itself at a place above 0."""

    spec = SPEC

    def reset(self, key):
        end = jax.random.randint(key, (), 1, CUT + 3)
        state = WalkState(jnp.int32(0), jnp.int32(0), end)
        return state, view_of(*state)

    def step(self, key, state, action):
        after = WalkState(state.t + 1, state.place + action.sum() - 2, state.end)
        terminal = after.t == state.end
        truncated = (after.t == CUT) & ~terminal
        reward = after.place.astype(jnp.float32)
        return after, view_of(*after), StepResult(reward, terminal, truncated, terminal & (reward > 0))


class HostWalk:
    """The same walk in Python; the seed is where it ends."""

    spec = SPEC

    def reset_host(self, seed):
        self.t, self.place, self.end = 0, 0, seed
        return view_of(0, 0, seed, np)

    def step_host(self, action):
        assert self.t < min(self.end, CUT), "an ended episode was stepped"
        self.t, self.place = self.t + 1, self.place + int(action.sum()) - 2
        terminal = self.t == self.end
        flags = terminal, self.t == CUT and not terminal, terminal and self.place > 0
        return view_of(self.t, self.place, self.end, np), StepResult(*map(np.asarray, (np.float32(self.place), *flags)))


def pick(key, inputs):
    return action_selection.epsilon_greedy(key, inputs.q, inputs.avail, jnp.float32(0.7))


def greedy(key, inputs):
    return action_selection.greedy(inputs.q, inputs.avail)


TEAM = Teams(random_team(0, SPEC))
KEYS = jax.random.split(jax.random.key(0), B)
play = eqx.filter_jit(lambda how, keys: collect(Walk(), TEAM, how, keys))


@pytest.fixture(scope="module")
def played():
    return jax.tree.map(np.asarray, play(pick, KEYS))


def assert_is_a_walk(e, won):
    """Every row follows from the one before and the action between them."""
    t, place, end = np.moveaxis(e.state, -1, 0)
    for b in range(len(e.valid)):
        length = int(min(end[b, 0], CUT))
        np.testing.assert_array_equal(e.valid[b], np.arange(LIMIT) < length)
        np.testing.assert_array_equal(t[b, : length + 1], np.arange(length + 1))
        assert place[b, 0] == 0 and (end[b, : length + 1] == end[b, 0]).all()
        for k in range(length):
            assert place[b, k + 1] == place[b, k] + e.action[b, k].sum() - 2
            assert e.reward[b, k] == place[b, k + 1]
            assert e.terminal[b, k] == (k + 1 == end[b, 0])
            assert e.avail[b, k, np.arange(2), e.action[b, k]].all()
        for k in range(length + 1):
            expected = view_of(k, place[b, k], end[b, k], np)
            for name in Observation._fields:
                np.testing.assert_array_equal(getattr(e, name)[b, k], getattr(expected, name))
        assert not e.reward[b, length:].any() and not e.terminal[b, length:].any()
        assert won[b] == (end[b, 0] <= CUT and place[b, length] > 0)


def test_rows_steps_and_ends_line_up(played):
    e, won, _ = played
    assert_is_a_walk(e, won)
    lengths = e.valid.sum(axis=1)
    assert len(set(lengths)) > 2 and won.any() and not won.all()
    cut = e.valid[:, CUT - 1] & ~e.terminal[:, CUT - 1]
    assert cut.any() and not won[cut].any()  # a time limit is not an end of the task


def test_what_is_played_has_the_shapes_that_are_told_before(played):
    told = rollout_shapes(SPEC, B)
    assert jax.tree.structure(told) == jax.tree.structure(played)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(told)] == [(x.shape, x.dtype) for x in jax.tree.leaves(played)]


def test_skipping_ended_episodes_equals_the_full_loop():
    def full(keys, always):
        return collect(Walk(), TEAM, pick, keys, lambda going: always | going.any())

    short = KEYS[:4]
    run = jax.jit(full)
    for a, b in zip(jax.tree.leaves(run(short, True)), jax.tree.leaves(run(short, False)), strict=True):
        valid = a.shape[:2] == (4, LIMIT) and a.ndim == 3  # actions: what is played after the end is padding
        if not valid:
            np.testing.assert_array_equal(a, b)


def test_episodes_depend_on_their_key_alone(played):
    again = play(pick, KEYS[::-1])
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(played), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[::-1], b)


def test_acting_equals_unrolling():
    e = play(greedy, KEYS).episodes
    q = jax.vmap(unroll, in_axes=(None, 0))(TEAM.online.agent, e).q[:, :-1]
    best = action_selection.greedy(q, e.avail[:, :-1])
    np.testing.assert_array_equal(np.asarray(e.action)[e.valid], np.asarray(best)[e.valid])


def test_environments_on_the_host_line_up_too():
    ends = [1, 3, 5, 6, 7, 2]
    seeds = jax.random.split(jax.random.key(1), len(ends))
    settings = TEAM, SPEC, pick, seeds
    step = jax.jit(lambda t, acting, seen: act(*settings, t, acting, seen, jnp.zeros(()), jnp.ones(())))

    def act_at(t, acting, observation):
        acting, action = step(jnp.int32(t), acting, jax.tree.map(jnp.asarray, observation))
        return acting, np.asarray(action)

    acting = start_acting(TEAM, SPEC, len(ends))
    found = collect_host([HostWalk() for _ in ends], act_at, acting, ends)
    assert_is_a_walk(*found[:2])


@pytest.mark.parametrize("game", ["climbing", "penalty", "two_step"])
def test_matrix_games_pay_what_their_tables_say(game):
    env = envs.make(f"matrix:{game}")
    teams = Teams(random_team(0, env.spec))
    e, won, _ = jax.tree.map(np.asarray, jax.jit(lambda k: collect(env, teams, pick, k))(KEYS))
    assert e.valid.all() and e.terminal[:, -1].all() and not e.terminal[:, :-1].any()
    for b in range(B):
        stage = e.state[b, :-1].argmax(-1)
        payoff = [float(env._payoff[s, u[0], u[1]]) for s, u in zip(stage, e.action[b], strict=True)]
        np.testing.assert_allclose(e.reward[b], payoff)
        assert won[b] == (abs(sum(payoff) - env.optimal_return) < 1e-3)
        assert not e.state[b, -1].any()
