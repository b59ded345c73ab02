"""The strategies' rules, followed in plain NumPy or by brute force: how they act, weigh and learn."""

import dataclasses
import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from support.episodes import SMALL, SPEC, as_jax, inputs_of, random_avail, random_episode, random_team

from ovmse.core import action_selection, networks, values
from ovmse.core.mixers import QWeights
from ovmse.core.networks import Heads
from ovmse.core.schedules import constant, linear
from ovmse.learning import learner, play as playing
from ovmse.methods import METHODS
from ovmse.methods.balanced import LARGEST, LEAST, DensityRatio, TellApart
from ovmse.methods.exploration import EpsilonGreedy
from ovmse.methods.jsrl import Guided
from ovmse.methods.losses import CQL, SquaredError
from ovmse.methods.otc import Agreement
from ovmse.methods.pex import Expand
from ovmse.methods.reincarnation import Keep
from ovmse.methods.signatures import ActionInputs, PolicyOutput
from ovmse.methods.sim2o import Blend, beam_search, central_value

N, A, LIMIT = 5, 4, 10
GREEDY = EpsilonGreedy(constant(0.0))
LIKELY = 1e-3  # keys are fixed, so a test that passes once passes always


def output(rng, critics=1, logits=False):
    """What a team of random utilities and mixing weights says."""
    w1, w2 = abs(rng.normal(size=(N, 3))), abs(rng.normal(size=3))
    weights = QWeights(*(jnp.asarray(x, jnp.float32) for x in (w1, rng.normal(size=3), w2, rng.normal())))
    policy = jnp.asarray(rng.normal(size=(N, A)), jnp.float32) if logits else None
    return PolicyOutput(Heads(jnp.asarray(rng.normal(size=(N, critics, A)), jnp.float32), policy, None), weights)


def inputs(seed, t=0, progress=0.0, **kind):
    """A row at which the online and the frozen team disagree."""
    rng = np.random.default_rng(seed)
    online, offline = output(rng, **kind), output(rng, **kind)
    avail = jnp.asarray(random_avail(rng, (N, A)))
    return ActionInputs(online.heads.acting, avail, jnp.int32(t), jnp.float32(progress), online, offline, LIMIT)


def best_legal(q, avail):
    return np.where(np.asarray(avail), np.asarray(q), -np.inf).argmax(-1)


def q_tot_by_hand(said, joint):
    q = np.asarray(said.heads.critics, float)[np.arange(N), 0, list(joint)]
    w1, b1, w2, b2 = (np.asarray(x, float) for x in said.weights)
    hidden = q @ w1 + b1
    return np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0))) @ w2 + b2


# Sim2O


def worth_by_hand(seen, joint, frozen=0.5):
    return (1 - frozen) * q_tot_by_hand(seen.online, joint) + frozen * q_tot_by_hand(seen.offline, joint)


def beam_by_hand(seen, online, kept, beam, frozen):
    found = [tuple(kept)]
    for i in range(N):
        more = [(*joint[:i], online[i], *joint[i + 1 :]) for joint in found if online[i] != kept[i]]
        found = sorted(found + more, key=lambda joint: -worth_by_hand(seen, joint, frozen))[:beam]
    return found[0]


search = jax.jit(beam_search, static_argnums=(3, 4))


@pytest.mark.parametrize(("beam", "frozen"), [(32, 0.5), (3, 0.5), (2, 0.2), (1, 0.5)])
def test_the_beam_search_is_the_one_by_hand(beam, frozen):
    short = 0
    for seed in range(60):
        seen, rng = inputs(seed), np.random.default_rng(seed)
        online, kept = rng.integers(0, A, N), rng.integers(0, A, N)
        found = tuple(np.asarray(search(seen, jnp.asarray(online), jnp.asarray(kept), beam, frozen)).tolist())
        assert found == beam_by_hand(seen, online.tolist(), kept.tolist(), beam, frozen)
        every = itertools.product(*zip(online.tolist(), kept.tolist(), strict=True))
        best = max(every, key=lambda joint: worth_by_hand(seen, joint, frozen))
        short += found != best
        if beam == 2**N:
            assert found == best
    assert beam > 1 or short  # a beam of one misses some, or this would test nothing


def test_the_central_value_weighs_both_teams():
    seen, joint = inputs(3), np.array([[0, 1, 2, 3, 0], [1, 1, 1, 1, 1]])
    for frozen in (0.0, 0.5, 1.0):
        expected = [worth_by_hand(seen, u, frozen) for u in joint]
        np.testing.assert_allclose(central_value(seen, jnp.asarray(joint), frozen), expected, rtol=1e-4)


def test_sim2o_proposes_what_both_teams_would_do():
    blend = jax.jit(Blend(online=GREEDY, beam=2**N))
    for seed in range(20):
        seen = inputs(seed)
        kept, online = (best_legal(said.heads.q, seen.avail) for said in (seen.offline, seen.online))
        found = blend(jax.random.key(0), seen)
        assert ((np.asarray(found) == kept) | (np.asarray(found) == online)).all()
        assert worth_by_hand(seen, found) >= max(worth_by_hand(seen, kept), worth_by_hand(seen, online)) - 1e-4


# PEX


def test_pex_draws_proposals_by_the_softmax_of_the_standardised_online_utilities():
    seen, draws = inputs(1), 20_000
    kept, online = (best_legal(said.heads.q, seen.avail) for said in (seen.offline, seen.online))
    q = np.asarray(seen.online.heads.q, float)
    legal = np.asarray(seen.avail)
    q = np.array(
        [
            (row - row[mask].mean()) / row[mask].std() if mask.sum() > 1 else row
            for row, mask in zip(q, legal, strict=True)
        ]
    )
    for temperature in (0.3, 2.0):
        part = Expand(online=GREEDY, temperature=temperature)
        played = np.asarray(jax.vmap(part, in_axes=(0, None))(jax.random.split(jax.random.key(0), draws), seen))
        for i in range(N):
            if kept[i] == online[i]:
                assert (played[:, i] == kept[i]).all()
                continue
            worth = np.exp(np.array([q[i, kept[i]], q[i, online[i]]]) / temperature)
            counts = np.array([(played[:, i] == kept[i]).sum(), (played[:, i] == online[i]).sum()])
            assert counts.sum() == draws
            assert stats.chisquare(counts, draws * worth / worth.sum()).pvalue > LIKELY
    assert (kept != online).sum() > 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_pex_explores_around_its_choice_whatever_the_scale_of_the_utilities(scale):
    """At ε every agent plays a random legal action as often as ε says: the choice comes first."""
    seen, epsilon, draws = inputs(1), 0.4, 20_000
    online = seen.online._replace(heads=seen.online.heads._replace(critics=seen.online.heads.critics * scale))
    seen = seen._replace(q=seen.q * scale, online=online)
    part = Expand(online=EpsilonGreedy(constant(epsilon)))
    played = np.asarray(jax.vmap(part, in_axes=(0, None))(jax.random.split(jax.random.key(1), draws), seen))
    kept, own = (best_legal(said.heads.q, seen.avail) for said in (seen.offline, seen.online))
    for i in range(N):
        legal = int(seen.avail[i].sum())
        elsewhere = ((played[:, i] != kept[i]) & (played[:, i] != own[i])).mean()
        assert elsewhere == pytest.approx(epsilon * (legal - len({kept[i], own[i]})) / legal, abs=0.02)


# JSRL


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.4, 0.5, 1.0])
def test_the_guide_plays_the_first_rows_and_no_others(progress):
    part = Guided(horizon=linear(0.8, 0.0, share=0.5), then=GREEDY)
    rows = LIMIT * max(0.0, 0.8 * (1 - progress / 0.5))
    play = jax.jit(part)
    for t in range(LIMIT):
        seen = inputs(7, t=t, progress=progress)
        kept, online = (best_legal(said.heads.q, seen.avail) for said in (seen.offline, seen.online))
        assert (kept != online).any()
        expected = kept if t < rows - 1e-4 else online
        np.testing.assert_array_equal(play(jax.random.key(t), seen), expected)


# Selective reincarnation


@pytest.mark.parametrize("kept", [(), (1, 3), (2, 99)])
def test_kept_agents_play_the_frozen_team_and_the_others_the_online_one(kept):
    method = dataclasses.replace(METHODS["reincarnation"], acting_utilities=Keep(kept), explore=GREEDY)
    play = jax.jit(lambda epsilon, key, seen: playing._pick(method, epsilon)(key, seen))
    for seed, epsilon in itertools.product(range(5), (0.0, -1.0)):  # in evaluation and while training
        seen = inputs(seed)
        offline, online = (best_legal(said.heads.q, seen.avail) for said in (seen.offline, seen.online))
        found = play(jnp.float32(epsilon), jax.random.key(seed), seen)
        expected = np.where(np.isin(np.arange(N), kept), offline, online)
        np.testing.assert_array_equal(found, expected)


# RLPD: critics and layer normalisation


def forward(team, episode):
    """The utilities of each critic [T+1, N, K, A] of a normalising team, layer by layer."""
    agent = jax.tree.map(lambda x: np.asarray(x, float), team.agent)

    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    n, a, cell = SPEC.n_agents, SPEC.n_actions, agent.cell
    hidden, last, said = np.zeros((n, SMALL.hidden)), np.zeros((n, a)), []
    for t, obs in enumerate(np.asarray(episode.obs, float)):
        x = np.concatenate([obs, np.eye(n), last], axis=1) @ agent.encoder.weight.T + agent.encoder.bias
        x = np.maximum(normal(x), 0)
        i, h = np.split(x @ cell.weight_ih.T + cell.bias, 3, axis=-1), np.split(hidden @ cell.weight_hh.T, 3, axis=-1)
        reset, update = sigmoid(i[0] + h[0]), sigmoid(i[1] + h[1])
        new = np.tanh(i[2] + reset * (h[2] + cell.bias_n))
        hidden = new + update * (hidden - new)
        said.append((normal(hidden) @ agent.head.weight.T + agent.head.bias).reshape(n, 2, a))
        last = np.eye(a)[np.asarray(episode.action)[t]] if t < len(episode.action) else last
    return np.stack(said)


def mixed(team, state, q):
    w1, b1, w2, b2 = (np.asarray(x, float) for x in networks_weights(team, state))
    hidden = q @ w1 + b1
    return np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0))) @ w2 + b2


def networks_weights(team, state):
    return values.weights_at(team.mixer, jnp.asarray(state))


def test_two_critics_both_regress_onto_the_smaller_and_the_team_acts_by_their_mean():
    parts, gamma = {"critics": 2, "normalise": True}, 0.9
    team, slow = random_team(0, **parts), random_team(1, **parts)
    episode = as_jax(random_episode(np.random.default_rng(0), 5))
    inputs = inputs_of(team, slow, episode, gamma=gamma)
    q, q_slow, avail = forward(team, episode), forward(slow, episode), np.asarray(episode.avail)
    np.testing.assert_allclose(inputs.values.online.acting[:6], q.mean(axis=2)[:6], atol=1e-4)  # 5 steps
    loss = METHODS["rlpd"].online_loss(inputs)
    agents = np.arange(SPEC.n_agents)
    for t in range(5):
        greedy, taken = best_legal(q[t + 1].mean(axis=1), avail[t + 1]), np.asarray(episode.action[t])
        after = min(mixed(slow, episode.state[t + 1], q_slow[t + 1][agents, k, greedy]) for k in range(2))
        target = float(episode.reward[t]) + gamma * (0.0 if episode.terminal[t] else after)
        assert float(inputs.td_target[t]) == pytest.approx(target, abs=1e-3)
        errors = [mixed(team, episode.state[t], q[t][agents, k, taken]) - target for k in range(2)]
        assert float(loss[t]) == pytest.approx(np.square(errors).sum(), rel=1e-3, abs=1e-3)
    assert METHODS["rlpd"].offline_share == constant(0.5) and METHODS["rlpd"].offline_loss is None
    assert METHODS["kept"].online_loss == METHODS["kept"].offline_loss == CQL(alpha=3.0)


# Balanced replay, and the episodes that agree


def ratio_by_hand(team, episode):
    """The logit of each step."""
    (w1, b1), (w2, b2) = ((np.asarray(x.weight, float), np.asarray(x.bias, float)) for x in team.ratio.layers)
    joint = np.eye(SPEC.n_actions)[np.asarray(episode.action)].reshape(len(episode.action), -1)
    x = np.concatenate([np.asarray(episode.state)[:-1], joint], axis=1)
    return (np.maximum(x @ w1.T + b1, 0) @ w2.T + b2)[:, 0]


@pytest.fixture(scope="module")
def telling():
    """Two teams that tell offline from online steps, and an episode with garbage in its padding."""
    episode = as_jax(random_episode(np.random.default_rng(3), 4, padding=5.0))
    return random_team(0, ratio=True), random_team(1, ratio=True), episode


@pytest.mark.parametrize("share", [0.5, 0.1, 0.8])
@pytest.mark.parametrize(("from_data", "drawn"), [(True, 1.0), (True, 2.5), (False, 1.0)])
def test_the_logistic_loss_by_hand(telling, from_data, drawn, share):
    team, slow, episode = telling
    inputs = inputs_of(team, slow, episode, from_data=jnp.asarray(from_data), drawn=drawn, offline_share=share)
    z = ratio_by_hand(team, episode)
    ratio = np.exp(z)
    odds = ratio * (1 - share) / share  # of having been played online, in such a batch
    loss = -np.log(1 / (odds + 1)) if from_data else -np.log(odds / (odds + 1))
    found = TellApart()(inputs) - SquaredError()(inputs)
    np.testing.assert_allclose(found[:4], (loss / drawn)[:4], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_best_ratio_does_not_depend_on_the_share_of_offline_steps(telling, share):
    """Steps twice as likely online as offline: whatever the batch holds of either, the loss is least at log 2."""
    team, slow, episode = telling

    @jax.jit
    def expected_loss(bias):
        shifted = eqx.tree_at(
            lambda x: (x.ratio.layers[1].weight, x.ratio.layers[1].bias),
            team,
            (jnp.zeros((1, SMALL.hyper)), bias[None]),
        )
        given = [
            inputs_of(shifted, slow, episode, from_data=jnp.asarray(d), offline_share=share) for d in (True, False)
        ]
        offline, online = (TellApart()(x)[0] for x in given)
        return share * 1 / 3 * offline + (1 - share) * 2 / 3 * online

    grid = jnp.linspace(-2, 3, 501)
    assert float(grid[jnp.argmin(jax.vmap(expected_loss)(grid))]) == pytest.approx(np.log(2), abs=0.02)


def test_telling_apart_trains_the_ratio_alone(telling):
    team, slow, episode = telling

    def beyond(team):
        inputs = inputs_of(team, slow, episode, offline_share=0.5)
        return (TellApart()(inputs) - SquaredError()(inputs)).sum()

    gradient = eqx.filter_jit(eqx.filter_grad(beyond))(team)
    assert all(float(abs(x).max()) < 1e-6 for x in jax.tree.leaves((gradient.agent, gradient.mixer)))
    assert all(float(abs(x).max()) > 1e-3 for x in jax.tree.leaves(gradient.ratio))


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_density_ratio_by_hand(telling, temperature):
    team, slow, episode = telling
    ratio = np.exp(ratio_by_hand(team, episode) / temperature)[:4]  # its steps, without the padding
    found = DensityRatio(temperature)(inputs_of(team, slow, episode))
    assert float(found) == pytest.approx(ratio.clip(LEAST, LARGEST).mean(), rel=1e-4)


def test_agreement_by_hand(telling):
    team, slow, _ = telling
    agreement, seen = jax.jit(lambda e: Agreement(least=0.1)(inputs_of(team, slow, e))), set()
    utilities = jax.jit(lambda e: networks.unroll(team.agent, e).q)
    for seed in range(8):
        episode = as_jax(random_episode(np.random.default_rng(seed), 4, padding=5.0))
        q = np.asarray(utilities(episode))
        same = choices = 0
        for t, i in itertools.product(range(4), range(SPEC.n_agents)):
            if episode.avail[t, i].sum() > 1:
                choices += 1
                same += int(best_legal(q[t, i], episode.avail[t, i]) == episode.action[t, i])
        found = float(agreement(episode))
        assert found == pytest.approx(0.1 + same / choices)
        seen.add(round(found, 4))
    assert len(seen) > 3


@pytest.mark.parametrize("name", ["balanced", "otc", "rlpd"])
def test_what_lies_in_the_padding_changes_nothing(name):
    method = METHODS[name]
    parts = {k: v for k, v in dataclasses.asdict(method.parts_online).items() if k != "mixer"}
    team, slow = random_team(0, **parts), random_team(1, **parts)
    objective = learner.Objective(method.online_loss, lambda td, memory: td, method.next_value, method.priority)
    clean = random_episode(np.random.default_rng(1), 3)
    noise = random_episode(np.random.default_rng(2), 3, padding=50.0)
    rows = np.arange(len(clean.obs)) <= 3

    def keep(own, other):
        mask = rows[: len(own)] if len(own) == len(rows) else clean.valid
        return np.where(mask.reshape(-1, *[1] * (own.ndim - 1)), own, other)

    noisy = jax.tree.map(keep, clean, noise)._replace(valid=clean.valid)

    @jax.jit
    def result(episode):
        steps = SPEC.episode_limit
        one = learner.Batch(as_jax(episode), jnp.zeros(steps), jnp.ones(steps, bool), jnp.full(steps, 1.5))
        return learner.episode_loss(SMALL, objective, team, slow, one, jax.random.key(0))

    for a, b in zip(jax.tree.leaves(result(clean)), jax.tree.leaves(result(noisy)), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-4)


# All of them


EXPLORERS = {type(m.explore).__name__: jax.jit(m.explore) for m in METHODS.values() if m.online_target is not None}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), t=st.integers(0, LIMIT - 1), progress=st.floats(0, 1))
@pytest.mark.parametrize("name", EXPLORERS)
def test_illegal_actions_are_never_played(name, seed, t, progress):
    seen = inputs(seed, t=t, progress=progress)
    tempting = jnp.where(seen.avail, 0.0, 50.0)  # illegal actions look best
    on, off = (said._replace(heads=Heads(said.heads.critics + tempting[:, None], None, None)) for said in seen[4:6])
    seen = seen._replace(q=seen.q + tempting, online=on, offline=off)
    for k in range(3):
        action = np.asarray(EXPLORERS[name](jax.random.key(seed + k), seen))
        assert np.asarray(seen.avail)[np.arange(N), action].all()


def test_teams_with_a_policy_propose_by_it():
    seen = inputs(5, logits=True)
    kept = action_selection.greedy(seen.offline.heads.logits, seen.avail)
    first = Guided(horizon=constant(1.0), then=GREEDY)(jax.random.key(0), seen)
    np.testing.assert_array_equal(first, kept)
    assert (np.asarray(kept) != np.asarray(action_selection.greedy(seen.offline.heads.q, seen.avail))).any()
