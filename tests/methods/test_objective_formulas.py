"""The formulas that the offline objectives share: their invariants, on random numbers."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from support.episodes import SPEC, as_jax, inputs_of, random_avail, random_episode, random_team

from ovmse.core import values
from ovmse.core.errors import UserError
from ovmse.core.mixers import mix, share_of, weights_at
from ovmse.core.networks import chosen
from ovmse.core.schedules import linear
from ovmse.methods.awac import AdvantageWeighted
from ovmse.methods.calql import CalibratedCQL
from ovmse.methods.cfcql import CFCQL, agent_shares
from ovmse.methods.duce import DecayingPenalty
from ovmse.methods.icq import ImplicitConstraint, LoggedNext, implicit_weight
from ovmse.methods.iql import ImplicitQ
from ovmse.methods.losses import CQL
from ovmse.methods.omiga import LARGEST_EXPONENT, LocalRegularisation

T, N, A = SPEC.episode_limit, SPEC.n_agents, SPEC.n_actions
SEEDS = st.integers(0, 2**31 - 1)
MIXERS = ["qmix", "linear", "vdn"]
TEAMS = {name: random_team(0, mixer=name) for name in MIXERS}
FEW = settings(max_examples=15, deadline=None)


def drawn(seed, mixer):
    """Utilities, legal actions, logged actions, and a mixer's weights."""
    rng = np.random.default_rng(seed)
    q, avail = rng.normal(size=(T, N, A)) * 3, random_avail(rng, (T, N, A))
    action = np.where(avail, rng.random(avail.shape), -1).argmax(-1)
    state = jnp.asarray(rng.normal(size=(T, SPEC.state_size)), jnp.float32)
    weights = weights_at(TEAMS[mixer].mixer, state)
    return weights, jnp.asarray(q, jnp.float32), jnp.asarray(avail), jnp.asarray(action, jnp.int32)


gaps = jax.jit(values.counterfactual_gaps)


@pytest.mark.parametrize("mixer", MIXERS)
@FEW
@given(seed=SEEDS)
def test_a_gap_is_never_negative_and_a_calibrated_one_never_smaller(seed, mixer):
    weights, q, avail, action = drawn(seed, mixer)
    least = jnp.asarray(np.random.default_rng(seed).normal(size=T) * 5, jnp.float32)
    plain, calibrated = gaps(weights, q, avail, action), gaps(weights, q, avail, action, least)
    assert (plain >= -1e-4).all()
    assert (calibrated >= plain - 1e-4).all()
    np.testing.assert_allclose(gaps(weights, q, avail, action, jnp.full(T, -1e6)), plain, atol=1e-4)
    mean = values.cql_counterfactual(weights, q, avail, action)
    np.testing.assert_allclose(plain.mean(axis=-1), mean, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.slow
def test_what_lies_below_the_return_is_not_pushed_down(mixer):
    """With returns above every value, only the logged joint action's value has a slope left: −1 for each agent."""
    weights, q, avail, action = drawn(0, mixer)

    def pushed(q, least):
        return values.counterfactual_gaps(weights, q, avail, action, least).sum()

    def logged(q):
        return -N * mix(weights, chosen(q, action)).sum()

    np.testing.assert_allclose(jax.grad(pushed)(q, jnp.full(T, 1e3)), jax.grad(logged)(q), atol=1e-5)


@pytest.mark.parametrize("mixer", MIXERS)
@FEW
@given(seed=SEEDS)
def test_a_policys_own_actions_have_no_advantage_on_average(seed, mixer):
    weights, q, avail, action = drawn(seed, mixer)
    log_policy = values.log_policy(jnp.asarray(np.random.default_rng(seed).normal(size=q.shape), jnp.float32), avail)
    total = np.zeros(T)
    for a in range(A):
        swapped = action.at[:, 0].set(a)
        advantage = values.counterfactual_advantage(weights, q, log_policy, swapped)
        total += np.asarray(jnp.where(avail[:, 0, a], jnp.exp(log_policy[:, 0, a]) * advantage[:, 0], 0.0))
    np.testing.assert_allclose(total, 0.0, atol=1e-4)
    only = jnp.eye(A, dtype=bool)[action]  # no choice, no advantage
    forced = values.counterfactual_advantage(weights, q, values.log_policy(q, only), action)
    np.testing.assert_allclose(forced, 0.0, atol=1e-4)


@FEW
@given(advantage=st.floats(-1e4, 1e4, width=32), temperature=st.sampled_from([0.1, 1.0, 50.0]))
def test_an_advantage_weight_is_one_at_zero_and_never_above_the_largest(advantage, temperature):
    def weight(x):
        return values.advantage_weight(x, temperature, 100.0)

    assert float(weight(jnp.zeros(()))) == 1.0
    found = float(weight(jnp.float32(advantage)))
    assert found == pytest.approx(np.exp(min(advantage / temperature, np.log(100.0))), rel=2e-3, abs=1e-30)
    assert found <= 100.001
    assert float(jax.grad(weight)(jnp.float32(advantage))) == 0.0


@pytest.mark.parametrize("mixer", MIXERS)
@FEW
@given(seed=SEEDS, temperature=st.sampled_from([0.5, 3.0, 100.0]))
def test_an_implicit_weight_is_one_on_average_over_the_policys_actions(seed, mixer, temperature):
    weights, q, avail, action = drawn(seed, mixer)
    log_policy = values.log_policy(jnp.asarray(np.random.default_rng(seed).normal(size=q.shape), jnp.float32), avail)
    total = np.zeros((T, N))
    for a in range(A):
        others_kept = values.counterfactual_q_tot(weights, q, action)
        weight = implicit_weight(others_kept, log_policy, jnp.full_like(action, a), temperature)
        total += np.asarray(jnp.where(avail[..., a], jnp.exp(log_policy[..., a]) * weight, 0.0))
    np.testing.assert_allclose(total, 1.0, rtol=1e-4)


@FEW
@given(seed=SEEDS, temperature=st.sampled_from([0.1, 0.5, 5.0]))
def test_cfcqls_shares_add_up_to_one_and_favour_whoever_leaves_the_log_furthest(seed, temperature):
    weights, q, avail, action = drawn(seed, "qmix")
    log_behaviour = values.log_policy(jnp.zeros_like(q), avail)
    q_tot = values.counterfactual_q_tot(weights, q, action)
    share = np.asarray(agent_shares(q_tot, log_behaviour, avail, temperature))
    np.testing.assert_allclose(share.sum(axis=-1), 1.0, rtol=1e-5)
    mu = np.exp(np.asarray(values.log_policy(q_tot, avail), float))
    far = np.where(avail, mu * (np.log(np.maximum(mu, 1e-300)) - np.asarray(log_behaviour)), 0.0).sum(axis=-1)
    furthest = np.take_along_axis(share, far.argmax(axis=-1)[:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(furthest, share.max(axis=-1), atol=1e-3)
    np.testing.assert_allclose(
        agent_shares(q_tot, values.log_policy(q_tot, avail), avail, temperature), 1 / N, rtol=1e-5
    )


@FEW
@given(seed=SEEDS, agent=st.integers(0, N - 1), more=st.floats(0, 10))
def test_a_linear_mixer_increases_in_every_utility_by_its_weight(seed, agent, more):
    weights, q, _, action = drawn(seed, "linear")
    taken = chosen(q, action)
    before, after = mix(weights, taken), mix(weights, taken.at[:, agent].add(more))
    assert (after >= before - 1e-5).all()
    share = share_of(weights, taken)
    np.testing.assert_allclose(after - before, more * share[:, agent], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(share, weights.w, rtol=1e-6)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_share_is_the_mixers_slope(mixer):
    weights, q, _, action = drawn(3, mixer)
    taken = chosen(q, action)
    share = share_of(weights, taken)
    assert share.shape == (T, N) and (share >= 0).all()
    for i in range(N):
        rise = mix(weights, taken.at[:, i].add(0.01)) - mix(weights, taken.at[:, i].add(-0.01))
        np.testing.assert_allclose(share[:, i], rise / 0.02, rtol=2e-2, atol=2e-3)


@FEW
@given(seed=SEEDS, length=st.integers(1, T), ends=st.sampled_from(["terminal", "truncated"]))
def test_returns_to_go_add_up_what_the_log_brought(seed, length, ends):
    e = random_episode(np.random.default_rng(seed), length, ends=ends, padding=1e3)
    found = values.returns_to_go(*map(jnp.asarray, (e.reward, e.terminal, e.valid)), 0.8)
    expected = np.array([sum(0.8 ** (k - t) * e.reward[k] for k in range(t, length)) for t in range(length)])
    np.testing.assert_allclose(found[:length], expected, rtol=1e-4, atol=1e-5)


def test_each_critic_has_its_own_q_tot():
    weights, q, _, action = drawn(0, "qmix")
    critics = jnp.stack([q, q + 1.0, -q], axis=-2)
    found = values.q_tot_of_critics(weights, critics, action)
    for k, each in enumerate((q, q + 1.0, -q)):
        np.testing.assert_allclose(found[k], mix(weights, chosen(each, action)), rtol=1e-6)


def test_omigas_values_rise_to_meet_utilities_far_above_them():
    """Where the exponent is clipped, V_i's slope stays negative: w/α (1 − exp of the largest exponent)."""
    team = random_team(0, mixer="vdn", policy=True, value=True)
    given = inputs_of(team, team, as_jax(random_episode(np.random.default_rng(0), T)))
    v = given.values
    far = v._replace(target=v.target._replace(critics=v.target.critics + 1e4))

    def total(value):
        return LocalRegularisation(alpha=10.0)(
            given._replace(values=far._replace(online=v.online._replace(value=value)))
        ).sum()

    slopes = jax.grad(total)(v.online.value)[:-1]
    np.testing.assert_allclose(slopes, 0.1 * (1 - np.exp(LARGEST_EXPONENT)), rtol=1e-4)


@pytest.mark.parametrize(("progress", "alpha"), [(0.0, 2.0), (0.25, 1.0), (0.5, 0.0), (1.0, 0.0)])
def test_duces_penalty_is_cfcqls_with_equal_weights_and_decays(progress, alpha):
    team, slow = random_team(0), random_team(1)
    given = inputs_of(team, slow, as_jax(random_episode(np.random.default_rng(0), T)), progress=jnp.float32(progress))
    found = DecayingPenalty(linear(2.0, 0.0, 0.5))(given)
    np.testing.assert_allclose(found, CQL(alpha=alpha, form="counterfactual")(given), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ImplicitQ(expectile=1.0), "expectile must lie between 0 and 1"),
        (lambda: ImplicitQ(temperature=0.0), "IQL's temperature must be greater than 0"),
        (lambda: ImplicitQ(largest=-1.0), "IQL's largest weight must be greater than 0"),
        (lambda: AdvantageWeighted(temperature=float("inf")), "AWAC's temperature"),
        (lambda: AdvantageWeighted(largest=0.0), "AWAC's largest weight"),
        (lambda: LoggedNext(temperature=-1.0), "ICQ's temperature"),
        (lambda: ImplicitConstraint(temperature=0), "ICQ's temperature"),
        (lambda: LocalRegularisation(alpha=0.0), "OMIGA's alpha must be greater than 0"),
        (lambda: CFCQL(alpha=-0.1), "CFCQL's alpha must be 0 or more"),
        (lambda: CFCQL(temperature=float("nan")), "CFCQL's temperature"),
        (lambda: CalibratedCQL(alpha=-5), "Cal-QL's alpha must be 0 or more"),
    ],
)
def test_unusable_settings_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()
