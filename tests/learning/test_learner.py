"""The learner: what is averaged, what padding may not change, the optimisers by hand, and the target network."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SMALL, SPEC, close, in_float64, inputs_of, random_episode, random_team, stack

from ovmse.config import LearnerConfig
from ovmse.core import values
from ovmse.core.errors import UserError
from ovmse.learning import learner
from ovmse.methods.losses import CQL, SquaredError, squared_error

T = SPEC.episode_limit
KEY = jax.random.key(0)
LENGTHS, ENDS = (6, 2, 4, 3), ("truncated", "terminal", "terminal", "truncated")


def batch(padding=0.0, limit=T, dtype=np.float64, seed=0):
    """Four episodes padded to `limit`, and a memory; equal seeds give equal valid steps."""
    rng = np.random.default_rng(seed)
    full = stack([random_episode(rng, n, ends=e, dtype=dtype) for n, e in zip(LENGTHS, ENDS, strict=True)])
    memory = rng.normal(size=(4, T)) * 3
    if padding:
        noise = [random_episode(rng, n, padding=padding, dtype=dtype) for n in LENGTHS]
        memory = np.where(full.valid, memory, padding)
        rows = np.arange(T + 1)[None] <= np.array(LENGTHS)[:, None]

        def keep(own, other):
            mask = rows[:, : own.shape[1]] if own.shape[1] == T + 1 else np.asarray(full.valid)
            return jnp.where(mask.reshape(mask.shape + (1,) * (own.ndim - 2)), own, other)

        full = jax.tree.map(keep, full, stack(noise))._replace(valid=full.valid)
    return full, jnp.asarray(memory)


def regress(td, memory):
    return values.memory_target(td, memory, jnp.asarray(0.5, td.dtype))


def teams():
    return in_float64(random_team(0)), in_float64(random_team(1))


@eqx.filter_jit
def compiled_gradient(config, loss, state, episodes, memory, within_return=False):
    given = learner.Batch(episodes, memory, jnp.ones(memory.shape, bool))
    objective = learner.Objective(loss, regress, within_return=within_return)
    return learner.gradient(config, objective, state, given, KEY)[:2]


def gradient_of(config, loss, episodes, memory):
    team, slow = teams()
    state = learner.Learner(team, slow, None, jnp.zeros((), jnp.int32), jnp.ones(()))
    return compiled_gradient(config, loss, state, episodes, memory)


RETURNS = dataclasses.replace(SMALL, td_lambda=0.6, gamma=0.9)
ONE_STEP = dataclasses.replace(SMALL, gamma=0.9)
LOSS = CQL(alpha=0.3)


@pytest.mark.parametrize(
    "config",
    [ONE_STEP, RETURNS, dataclasses.replace(RETURNS, bootstrap_at_limit=False)],
    ids=["one-step", "λ-return", "the limit ends"],
)
def test_the_loss_is_the_mean_over_all_valid_steps(config):
    td_lambda = config.td_lambda
    with jax.enable_x64(True):
        episodes, memory = batch()
        team, slow = teams()
        _, found = gradient_of(config, LOSS, episodes, memory)
        sums = dict.fromkeys(learner.Losses._fields, 0.0)
        evaluate = eqx.filter_jit(values.evaluate_episode)
        for b, length in enumerate(LENGTHS):
            e = jax.tree.map(lambda x, b=b: x[b], episodes)
            v = evaluate(team, slow, e)
            gap = np.asarray(values.cql_per_agent(v.q, e.avail[:-1], e.action))
            later = 0.0
            for t in reversed(range(length)):
                ahead = float(v.next_q_tot[t])
                if t < length - 1:
                    ahead = (1 - td_lambda) * ahead + td_lambda * later
                ends = e.terminal[t] or (t == length - 1 and not config.bootstrap_at_limit)
                later = td = float(e.reward[t]) + (0.0 if ends else 0.9 * ahead)
                target = td + 0.5 * max(0.0, float(memory[b, t]) - td)
                error = (float(v.q_tot[t]) - target) ** 2
                sums["loss"] += error + 0.3 * gap[t]
                sums["td_error"] += error
                sums["regulariser"] += 0.3 * gap[t]
                sums["q_tot"] += float(v.q_tot[t])
                sums["target"] += target
                sums["target_square"] += target**2
                sums["memory_active_share"] += float(memory[b, t]) > td
        for name, total in sums.items():
            np.testing.assert_allclose(getattr(found, name), total / sum(LENGTHS), rtol=1e-9, err_msg=name)


def test_the_memory_within_the_return_is_seen_by_the_steps_before():
    """Backwards by hand: each step's target is raised before the step before it is made of it."""
    with jax.enable_x64(True):
        episodes, memory = batch()
        team, slow = teams()
        state = learner.Learner(team, slow, None, jnp.zeros((), jnp.int32), jnp.ones(()))
        settings = RETURNS, SquaredError(), state, episodes, memory
        found = {within: compiled_gradient(*settings, within_return=within)[1] for within in (False, True)}
        total, evaluate = 0.0, eqx.filter_jit(values.evaluate_episode)
        for b, length in enumerate(LENGTHS):
            e = jax.tree.map(lambda x, b=b: x[b], episodes)
            v, later = evaluate(team, slow, e), 0.0
            for t in reversed(range(length)):
                ahead = float(v.next_q_tot[t])
                if t < length - 1:
                    ahead = 0.4 * ahead + 0.6 * later
                plain = float(e.reward[t]) + (0.0 if e.terminal[t] else 0.9 * ahead)
                later = plain + 0.5 * max(0.0, float(memory[b, t]) - plain)
                total += later
        np.testing.assert_allclose(found[True].target, total / sum(LENGTHS), rtol=1e-9)
        assert float(found[True].target) > float(found[False].target) + 1e-3
        np.testing.assert_allclose(found[True].memory_active_share, found[False].memory_active_share)


def test_normalised_values_have_no_scale():
    """Rewards, values and what is remembered times ten: the loss is the same once the running mean has followed."""
    with jax.enable_x64(True):
        episodes, _ = batch()
        team, slow = teams()
        given = inputs_of(team, slow, jax.tree.map(lambda x: x[0], episodes))
        v = given.values._replace(q_tot=10 * given.values.q_tot)
        big = given._replace(td_target=10 * given.td_target, values=v, error_scale=100.0)
        np.testing.assert_allclose(squared_error(big), squared_error(given), rtol=1e-12)


def test_values_are_normalised_by_the_running_mean_of_the_squared_target():
    config = dataclasses.replace(SMALL, value_normalisation=True)
    with jax.enable_x64(True):
        state, given = learner.restart(SMALL, teams()[0]), batch()
        plain = compiled_gradient(SMALL, SquaredError(), state, *given)
        wide = state._replace(target_square=jnp.asarray(4.0))
        found = compiled_gradient(config, SquaredError(), wide, *given)
        close(jax.tree.map(lambda g: 4.0 * g, found[0]), plain[0], 1e-12)
        np.testing.assert_allclose(found[1].td_error, plain[1].td_error, rtol=1e-12)  # as it is in the metrics
        after = eqx.filter_jit(learner.apply)(config, wide, found[0], found[1].target_square)
        expected = 4.0 + 0.01 * (float(found[1].target_square) - 4.0)
        np.testing.assert_allclose(after.target_square, expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [LOSS, CQL(form="counterfactual")], ids=["per_agent", "counterfactual"])
def test_garbage_in_the_padding_changes_nothing(loss):
    with jax.enable_x64(True):
        clean = gradient_of(RETURNS, loss, *batch())
        dirty = gradient_of(RETURNS, loss, *batch(padding=100.0))
        close(dirty, clean, 1e-12)


def test_the_gradient_takes_the_target_as_given():
    """Central differences of the loss against targets that are held where they were."""
    with jax.enable_x64(True):
        episodes, memory = batch()
        team, slow = teams()
        found, _ = gradient_of(ONE_STEP, SquaredError(), episodes, memory)

        @jax.vmap
        def targets(e, m):
            v = values.evaluate_episode(team, slow, e)
            return regress(values.td_target(e.reward, e.terminal, v.next_q_tot, 0.9), m)

        held = jax.jit(targets)(episodes, memory)

        @eqx.filter_jit
        def loss(team):
            q_tot = jax.vmap(values.taken_q_tot, in_axes=(None, 0))(team, episodes)
            return jnp.where(episodes.valid, (q_tot - held) ** 2, 0.0).sum() / sum(LENGTHS)

        rng = np.random.default_rng(0)
        leaves, structure = jax.tree.flatten(team)
        for _ in range(4):
            direction = [jnp.asarray(rng.normal(size=x.shape)) for x in leaves]
            ends = []
            for sign in (1e-5, -1e-5):
                moved = [x + sign * d for x, d in zip(leaves, direction, strict=True)]
                ends.append(float(loss(jax.tree.unflatten(structure, moved))))
            along = sum(float((g * d).sum()) for g, d in zip(jax.tree.leaves(found), direction, strict=True))
            assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_an_empty_batch_is_no_division_by_zero():
    with jax.enable_x64(True):
        episodes, memory = batch()
        nothing = episodes._replace(valid=jnp.zeros_like(episodes.valid))
        gradients, losses = gradient_of(ONE_STEP, LOSS, nothing, memory)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves((gradients, losses)))


def test_every_parameter_learns():
    with jax.enable_x64(True):
        gradients, _ = gradient_of(ONE_STEP, LOSS, *batch())
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


# The optimisers, by hand


def adam(lr, gradients, first=0.9, second=0.999, small=1e-8):
    x = m = v = 0.0
    for k, g in enumerate(gradients, 1):
        m, v = first * m + (1 - first) * g, second * v + (1 - second) * g**2
        x = x - lr * (m / (1 - first**k)) / (np.sqrt(v / (1 - second**k)) + small)
    return x


def rmsprop(lr, gradients, decay=0.99, small=1e-5):
    x = v = 0.0
    for g in gradients:
        v = decay * v + (1 - decay) * g**2
        x = x - lr * g / (np.sqrt(v) + small)
    return x


@pytest.mark.parametrize(("name", "by_hand"), [("adam", adam), ("rmsprop", rmsprop)])
def test_updates_clip_the_global_norm_and_follow_the_optimiser(name, by_hand):
    config = dataclasses.replace(SMALL, optimiser=name, learning_rate=0.01, clip_norm=2.0, target_every_updates=100)
    state = learner.restart(config, random_team(0))
    rng = np.random.default_rng(0)
    start = [np.asarray(x) for x in jax.tree.leaves(state.team)]
    apply = eqx.filter_jit(lambda s, g: learner.apply(config, s, g))
    clipped = []
    for norm in (50.0, 0.5, 7.0):  # clipped, left alone, clipped
        raw = [rng.normal(size=x.shape) for x in start]
        total = np.sqrt(sum((g**2).sum() for g in raw))
        raw = [g * norm / total for g in raw]
        clipped.append([g * min(1.0, 2.0 / norm) for g in raw])
        leaves = [jnp.asarray(g, jnp.float32) for g in raw]
        state = apply(state, jax.tree.unflatten(jax.tree.structure(state.team), leaves))
    assert int(state.updates) == 3
    for old, new, *gradients in zip(start, jax.tree.leaves(state.team), *clipped, strict=True):
        np.testing.assert_allclose(new - old, by_hand(0.01, gradients), rtol=2e-3, atol=2e-6)


# The target network


def walk(config, updates):
    """The learner after each of some updates with gradients of one."""
    state = learner.restart(config, random_team(0))
    ones = jax.tree.map(jnp.ones_like, state.team)
    apply = eqx.filter_jit(lambda s: learner.apply(config, s, ones))
    states = [state]
    for _ in range(updates):
        states.append(apply(states[-1]))
    return states


def test_the_target_network_is_copied_every_few_updates():
    states = walk(dataclasses.replace(SMALL, target_every_updates=3), 7)
    assert eqx.tree_equal(states[0].target, states[0].team)
    for k, state in enumerate(states):
        assert eqx.tree_equal(state.target, states[k // 3 * 3].team)
        assert k % 3 == 0 or not eqx.tree_equal(state.target, state.team)


def test_a_soft_target_moves_by_its_share():
    states = walk(dataclasses.replace(SMALL, target_rate=0.25, learning_rate=0.1), 3)
    for before, after in zip(states, states[1:], strict=False):
        mixed = jax.tree.map(lambda new, old: 0.25 * new + 0.75 * old, after.team, before.target)
        close(after.target, mixed, 1e-6)


def test_restarting_keeps_the_team_and_nothing_else():
    config = dataclasses.replace(SMALL, target_every_updates=100)
    old = walk(config, 3)[-1]
    new = learner.restart(config, old.team)
    assert eqx.tree_equal(new.team, old.team) and eqx.tree_equal(new.target, old.team)
    assert int(new.updates) == 0
    assert all((x == 0).all() for x in jax.tree.leaves(new.optimiser))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"gamma": 1.2}, "gamma"),
        ({"td_lambda": -0.1}, "--td-lambda must lie between"),
        ({"hidden": 0}, "hidden must be greater than 0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be"),
        ({"clip_norm": -1.0}, "--clip-norm must be"),
        ({"target_every_updates": 0}, "--target-every-updates must be"),
        ({"target_rate": 1.5}, "--target-rate must lie between"),
    ],
)
def test_unusable_settings_are_refused(setting, says):
    with pytest.raises(UserError, match=says):
        LearnerConfig(**setting)
