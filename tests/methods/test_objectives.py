"""The offline objectives against their published equations (`published.py`): each step's loss, and who learns what."""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import published
from support.episodes import SPEC, as_jax, in_float64, inputs_of, random_episode, random_team
from support.published import Said

from ovmse.core import values
from ovmse.core.mixers import mix, weights_at
from ovmse.core.networks import chosen, unroll
from ovmse.methods.awac import AdvantageWeighted
from ovmse.methods.bc import Imitate
from ovmse.methods.calql import CalibratedCQL
from ovmse.methods.cfcql import CFCQL
from ovmse.methods.icq import ImplicitConstraint, LoggedNext
from ovmse.methods.iql import ImplicitQ
from ovmse.methods.losses import SquaredError
from ovmse.methods.omiga import LARGEST_EXPONENT, LocalRegularisation, value_next

T, N, A = SPEC.episode_limit, SPEC.n_agents, SPEC.n_actions
GAMMA, LAMBDA = 0.9, 0.6
LENGTH = 4


def squared(now, held, slow, e, length, y):
    return [published.squared(now, e, t, y) for t in range(length)]


PUBLISHED = {
    "squared": (SquaredError(), squared, {}),
    "bc": (Imitate(), published.imitate, {}),
    "iql": (
        ImplicitQ(expectile=0.7, temperature=0.5, largest=3.0),
        published.implicit_q,
        {"expectile": 0.7, "temperature": 0.5, "largest": 3.0, "gamma": GAMMA, "lam": LAMBDA},
    ),
    "awac": (
        AdvantageWeighted(temperature=0.5, largest=1.5),
        published.advantage_weighted,
        {"temperature": 0.5, "largest": 1.5},
    ),
    "icq": (ImplicitConstraint(temperature=0.5), published.implicit_constraint, {"temperature": 0.5}),
    "omiga": (
        LocalRegularisation(alpha=0.1),
        published.local_regularisation,
        {"alpha": 0.1, "largest": LARGEST_EXPONENT},
    ),
    "cfcql": (CFCQL(alpha=0.7, temperature=2.0), published.counterfactual, {"alpha": 0.7, "temperature": 2.0}),
    "cfcql, all alike": (
        CFCQL(alpha=0.7, temperature=0.0),
        published.counterfactual,
        {"alpha": 0.7, "temperature": 0.0},
    ),
    "calql": (CalibratedCQL(alpha=0.7), published.calibrated, {"alpha": 0.7, "gamma": GAMMA}),
}
MIXERS = ["qmix", "linear", "vdn"]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@functools.cache
def teams(mixer):
    parts = {"mixer": mixer, "policy": True, "value": True, "behaviour": True, "critics": 2}
    return in_float64(random_team(0, **parts)), in_float64(random_team(1, **parts))


def an_episode(ends="terminal", length=LENGTH, padding=0.0, seed=0):
    return random_episode(np.random.default_rng(seed), length, ends=ends, padding=padding, dtype=np.float64)


def said_by(team, e):
    """What one team says of an episode, in NumPy."""
    heads = unroll(team.agent, as_jax(e))
    said = Said(*heads, weights_at(team.mixer, jnp.asarray(e.state)))
    return jax.tree.map(np.asarray, said)


TARGET = np.random.default_rng(9).normal(size=T) * 2


def inputs(team, slow, e):
    return inputs_of(team, slow, e, gamma=GAMMA, td_lambda=LAMBDA, td_target=jnp.asarray(TARGET))


@eqx.filter_jit
def losses_of(team, slow, e):
    """The loss of each step under every objective: compiled once."""
    given = inputs(team, slow, e)
    return {name: loss(given) for name, (loss, _, _) in PUBLISHED.items()}


@eqx.filter_jit
def gradients_by_what_was_said(team, slow, e, now: Said):
    """∂(the sum over valid steps)/∂(heads and mixer weights) under every objective."""
    given = inputs(team, slow, e)

    def total(now, loss):
        heads = given.values.online._replace(
            critics=now.critics, logits=now.logits, value=now.value, behaviour=now.behaviour
        )
        weights = jax.tree.map(lambda x: x[:-1], now.weights)
        q = heads.q[:-1]
        q_tot = mix(weights, chosen(q, e.action))
        v = given.values._replace(online=heads, weights=weights, q=q, q_tot=q_tot)
        return jnp.where(e.valid, loss(given._replace(values=v)), 0.0).sum()

    return {name: jax.grad(total)(now, loss) for name, (loss, _, _) in PUBLISHED.items()}


def gradients(mixer, e):
    team, slow = teams(mixer)
    return gradients_by_what_was_said(team, slow, as_jax(e), as_jax(said_by(team, e)))


@pytest.mark.parametrize("ends", ["terminal", "truncated"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_step_has_the_published_loss(mixer, ends):
    e = an_episode(ends)
    found = losses_of(*teams(mixer), as_jax(e))
    now, target_said = (said_by(team, e) for team in teams(mixer))
    for name, (_, formula, settings) in PUBLISHED.items():
        expected = formula(now, now, target_said, e, LENGTH, TARGET, **settings)
        np.testing.assert_allclose(found[name][:LENGTH], expected, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("mixer", MIXERS)
def test_each_term_teaches_what_it_should_and_no_more(mixer):
    """Central differences along each head and the mixer's weights, with all else that a term takes as given held."""
    e = an_episode()
    held, target_said = (said_by(team, e) for team in teams(mixer))
    found = gradients(mixer, e)
    rng = np.random.default_rng(0)
    for name, (_, formula, settings) in PUBLISHED.items():
        for part in Said._fields:
            leaves, structure = jax.tree.flatten(getattr(held, part))
            slopes = jax.tree.leaves(getattr(found[name], part))
            for k, leaf in enumerate(leaves):
                direction = rng.normal(size=leaf.shape)
                ends = []
                for step in (1e-6, -1e-6):
                    moved = [x + step * direction if j == k else x for j, x in enumerate(leaves)]
                    now = held._replace(**{part: jax.tree.unflatten(structure, moved)})
                    ends.append(sum(formula(now, held, target_said, e, LENGTH, TARGET, **settings)))
                along = float((np.asarray(slopes[k]) * direction).sum())
                assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-6), (name, part)


TEACHES = {
    "squared": {"critics", "weights"},
    "bc": {"logits"},
    "iql": {"critics", "logits", "value"},
    "awac": {"critics", "logits", "weights"},
    "icq": {"critics", "logits", "weights"},
    "omiga": {"critics", "logits", "value", "weights"},
    "cfcql": {"critics", "weights", "behaviour"},
    "cfcql, all alike": {"critics", "weights", "behaviour"},
    "calql": {"critics", "weights"},
}


def test_what_an_objective_teaches():
    for name, found in gradients("linear", an_episode()).items():
        learns = {part for part in Said._fields if any(np.any(x != 0) for x in jax.tree.leaves(getattr(found, part)))}
        assert learns == TEACHES[name], name


@eqx.filter_jit
def slopes_of(team, slow, e):
    """The gradients of both teams under the sum of all objectives."""

    def total(both):
        each = [loss(inputs(*both, e)) for loss, _, _ in PUBLISHED.values()]
        return jnp.where(e.valid, sum(each), 0.0).sum()

    return eqx.filter_grad(total)((team, slow))


@pytest.mark.slow
def test_garbage_in_the_padding_changes_nothing_and_the_slow_team_learns_nothing():
    both = teams("qmix")
    clean, dirty = an_episode("truncated"), an_episode("truncated", padding=100.0, seed=1)
    rows = {"obs", "state", "avail"}
    kept = {x: LENGTH + 1 if x in rows else LENGTH for x in clean._fields}
    dirty = dirty._replace(
        **{x: np.concatenate([getattr(clean, x)[:k], getattr(dirty, x)[k:]]) for x, k in kept.items()}
    )
    losses = [losses_of(*both, as_jax(e)) for e in (clean, dirty)]
    for name in PUBLISHED:
        np.testing.assert_allclose(losses[0][name][:LENGTH], losses[1][name][:LENGTH], rtol=1e-12, err_msg=name)
    slopes = [slopes_of(*both, as_jax(e)) for e in (clean, dirty)]
    for a, b in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    online, slow = slopes[0]
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(slow))
    assert all((np.asarray(x) != 0).any() for x in jax.tree.leaves(online))


def test_an_agent_without_a_choice_teaches_the_policy_nothing():
    e = an_episode()
    avail, action = np.array(e.avail), np.array(e.action)
    avail[:, 1] = np.arange(A) == 2
    action[:, 1] = 2
    found = gradients("linear", e._replace(avail=avail, action=action))
    for name in ("bc", "iql", "awac", "icq", "omiga"):
        assert (np.asarray(found[name].logits)[:, 1] == 0).all(), name
        assert np.any(found[name].logits != 0), name


# What the target bootstraps from


@eqx.filter_jit
def next_of(next_value, team, slow, e, key):
    return next_value(values.evaluate_episode(team, slow, e), e, key)


def follow(said, e, t, action):
    """The smallest critic's Q_tot of a joint action at row t."""
    each = []
    for k in range(said.critics.shape[2]):
        each.append(published.mixed(said.weights, t, [said.critics[t, i, k, action[i]] for i in range(N)]))
    return min(each)


@pytest.mark.parametrize("length", [1, LENGTH, T])
def test_icq_bootstraps_from_logged_joint_actions(length):
    team, slow = teams("linear")
    e = an_episode("truncated", length, padding=5.0)
    online, target = said_by(team, e), said_by(slow, e)
    found = next_of(LoggedNext(temperature=0.8), team, slow, as_jax(e), jax.random.key(0))
    logged = [follow(target, e, t, e.action[t]) for t in range(1, length)]
    said = target._replace(logits=online.logits)  # Σ_u' π(u') exp(Q̄_tot(u') / 0.8) over all joint actions
    expected = []
    for t in range(1, length):
        each = [published.policy(said, e, t, i) for i in range(N)]
        mean = 0.0
        for joint in itertools.product(*each):
            q = [published.utility(target, t, i, a) for i, a in enumerate(joint)]
            mean += math.prod(each[i][a] for i, a in enumerate(joint)) * np.exp(
                published.mixed(said.weights, t, q) / 0.8
            )
        q = published.mixed(said.weights, t, published.taken(target, e, t))
        expected.append(np.exp(q / 0.8) / mean * logged[t - 1])
    likely = [max(published.legal(e, length, i), key=lambda a, i=i: online.logits[length, i, a]) for i in range(N)]
    np.testing.assert_allclose(found[:length], [*expected, follow(target, e, length, likely)], rtol=1e-9)


def test_omiga_bootstraps_from_the_slow_values():
    team, slow = teams("linear")
    e = an_episode()
    said = said_by(slow, e)
    found = next_of(value_next, team, slow, as_jax(e), jax.random.key(0))
    expected = [published.mixed(said.weights, t + 1, said.value[t + 1]) for t in range(LENGTH)]
    np.testing.assert_allclose(found[:LENGTH], expected, rtol=1e-9)


def test_awac_bootstraps_from_samples_of_its_policy():
    """Every draw is one legal joint action's value, and their mean the expectation over all of them."""
    team, slow = teams("qmix")
    e = an_episode()
    online, target = said_by(team, e), said_by(slow, e)
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(jax.vmap(lambda key: next_of(values.next_of_policy, team, slow, as_jax(e), key))(keys))
    for t in range(LENGTH):
        joint = [((), 1.0)]
        for i in range(N):
            joint = [((*u, a), p * q) for u, p in joint for a, q in published.policy(online, e, t + 1, i).items()]
        worth = np.array([follow(target, e, t + 1, u) for u, _ in joint])
        mean = sum(p * x for (_, p), x in zip(joint, worth, strict=True))
        spread = np.sqrt(sum(p * (x - mean) ** 2 for (_, p), x in zip(joint, worth, strict=True)))
        assert np.abs(found[:, t, None] - worth).min(axis=1).max() < 1e-9
        assert abs(found[:, t].mean() - mean) <= 4.5 * spread / np.sqrt(len(keys)) + 1e-9


def test_nothing_is_learned_through_the_next_values():
    e = as_jax(an_episode())

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(both):
        v = values.evaluate_episode(*both, e)
        each = [f(v, e, jax.random.key(0)) for f in (LoggedNext(), value_next, values.next_of_policy)]
        return sum(x.sum() for x in each)

    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(slope(teams("linear"))))


def test_double_q_takes_the_smallest_critic_at_the_greedy_action_of_their_mean():
    team, slow = teams("qmix")
    e = an_episode()
    online, target = said_by(team, e), said_by(slow, e)
    found = eqx.filter_jit(values.evaluate_episode)(team, slow, as_jax(e)).next_q_tot
    for t in range(LENGTH):
        greedy = [
            max(published.legal(e, t + 1, i), key=lambda a, i=i, t=t: published.utility(online, t + 1, i, a))
            for i in range(N)
        ]
        assert float(found[t]) == pytest.approx(follow(target, e, t + 1, greedy), rel=1e-9)
