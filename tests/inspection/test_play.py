"""Who played, and how broadly: coverage counted by hand, known policies cloned, mixtures told from single policies."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ovmse.data.profile import bin_edges
from ovmse.data.stream import Block
from ovmse.inspection import clone, coverage, mixture, tally
from ovmse.inspection.recommendations import command, recommendations
from ovmse.inspection.rules import RULES, Figures
from ovmse.methods import METHODS
from ovmse.methods.overrides import change_method

EPISODES, STEPS = 240, 12


def toy(state, action, length):
    """A block of one agent whose observation is the state; both actions are always legal."""
    state = np.asarray(state, np.float32)[:, None]
    steps = int(np.sum(length))
    flat = {
        "obs": state[:, None],
        "state": state,
        "avail": np.ones((len(state), 1, 2), bool),
        "action": np.asarray(action)[:, None],
        "reward": np.ones(steps, np.float32),
        "terminal": np.zeros(steps, bool),
        "length": np.asarray(length),
        "won": np.zeros(len(length), bool),
    }
    return Block(0, flat)


# --- coverage


def test_joint_saco_by_hand():
    """Five steps, pairs (1,0) (2,0) (1,0) (1,1) (2,0): three distinct. The rows after the last steps do not count."""
    block = toy([1, 2, 9, 1, 1, 2, 8], [0, 0, 0, 1, 0], [2, 3])
    seen = coverage.see(coverage.nothing_seen(1), block, coverage.hashes(block))
    found = coverage.coverage(seen, 5, 2)
    assert found["joint_saco"] == 3 / 5 and found["agents"] == [3 / 5]
    assert found["distinct_states"] == 2 / 5 and found["actions_per_state"] == 3 / 2
    assert found["joint_actions"] == 2 and found["joint_action_space"] == 2 and found["exact"]


def test_own_coverage_leaves_out_forced_choices():
    block = toy([1, 2, 3, 4, 5], [0, 0, 1, 0], [4])
    block.flat["avail"][[0, 1], 0, 1] = False
    seen = coverage.see(coverage.nothing_seen(1), block, coverage.hashes(block))
    assert seen.choices.tolist() == [2] and coverage.coverage(seen, 4, 2)["agents"] == [1.0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=40))
def test_rows_are_equal_when_their_hashes_are(rows):
    values = np.array(rows, np.float32)
    found = coverage.hash_rows(values)
    assert len(np.unique(found)) == len(np.unique(values + 0.0, axis=0))  # -0.0 is the same number, and the same bits
    assert (coverage.hash_rows(values[::-1]) == found[::-1]).all()


def test_hashes_do_not_collide_on_close_floats():
    values = np.linspace(0, 1, 200_000, dtype=np.float32)[:, None]
    assert len(np.unique(coverage.hash_rows(values))) == 200_000


def test_counting_in_bounded_memory():
    rng = np.random.default_rng(0)
    hashes = coverage.mix(rng.integers(0, 50_000, 300_000).astype(np.uint64))
    exact = len(np.unique(hashes))
    seen = coverage.Distinct()
    for part in np.array_split(hashes, 30):
        seen = seen.with_more(part)
    assert seen.total == exact
    few = coverage.Distinct(most_kept=4000)
    for part in np.array_split(hashes, 30):
        few = few.with_more(part).sort_in()
        assert len(few.kept) <= 4000
    assert few.shift > 0 and few.total == pytest.approx(exact, rel=0.05)


def test_copies_have_the_same_digest_and_nothing_else_has():
    """Episodes 0 and 1 are the same; 2 has their steps in another order, 3 another final row, 4 another reward."""
    block = toy([1, 2, 3] * 2 + [2, 1, 3] + [1, 2, 4] + [1, 2, 3], [0, 1, 0, 1, 1, 0, 0, 1, 0, 1], [2] * 5)
    block.flat["reward"][9] = 2
    digest = tally.measure(block, coverage.hashes(block))[0].digest
    assert digest[0] == digest[1] and len(np.unique(digest)) == 4


# --- the cloned policy


def play(choose, seed=0, n_actions=4, episodes=EPISODES):
    """Episodes of two agents who see random signs; choose(rng, obs (T, 2, 3), episode) gives actions (T, 2)."""
    rng = np.random.default_rng(seed)
    rows = episodes * (STEPS + 1)
    obs = (rng.choice([-1, 1], (rows, 2, 3)) + 0.1 * rng.normal(size=(rows, 2, 3))).astype(np.float32)
    of_step = np.delete(np.arange(rows), np.arange(STEPS, rows, STEPS + 1)).reshape(episodes, STEPS)
    action = np.concatenate([choose(rng, obs[of_step[e]], e) for e in range(episodes)])
    flat = {
        "obs": obs,
        "state": obs[:, 0],
        "avail": np.ones((rows, 2, n_actions), bool),
        "action": action,
        "reward": np.ones(len(action), np.float32),
        "terminal": np.zeros(len(action), bool),
        "length": np.full(episodes, STEPS),
        "won": np.zeros(episodes, bool),
    }
    return Block(0, flat)


def sign(obs):
    """A deterministic policy: the quadrant of the first two features, 0 to 3."""
    return (obs[..., 0] > 0) * 1 + (obs[..., 1] > 0) * 2


def with_chance(rng, action, epsilon):
    return np.where(rng.random(action.shape) < epsilon, rng.integers(0, 4, action.shape), action)


def scripted(rng, obs, episode):
    return with_chance(rng, sign(obs), 0.2)


def two_habits(rng, obs, episode):
    return with_chance(rng, (obs[..., 0] > 0) * 1 + episode % 2 * 2, 0.2)


def sober_and_drunk(rng, obs, episode):
    return with_chance(rng, sign(obs), 0.05 if episode % 2 else 0.9)


def deterministic(rng, obs, episode):
    return sign(obs)


def uniform(rng, obs, episode):
    return rng.integers(0, 4, obs.shape[:2])


def clone_of(block, seed=0):
    return clone.fit(clone.take(block, np.ones(len(block.flat["length"]), bool)), seed)


@pytest.fixture(scope="module")
def clones():
    return {p.__name__: clone_of(play(p)) for p in (scripted, two_habits, sober_and_drunk, deterministic, uniform)}


@pytest.mark.slow
def test_the_entropy_of_a_known_policy(clones):
    """ε-greedy with ε = 0.2 on four actions: the greedy one has 0.85, each other one 0.05."""
    found = clone.figures(clones["scripted"], 2)
    truth = -(0.85 * np.log(0.85) + 3 * 0.05 * np.log(0.05))
    assert found["entropy"] == pytest.approx(truth, abs=0.1)
    assert found["entropy_share"] == pytest.approx(truth / np.log(4), abs=0.07)
    assert found["accuracy"] == pytest.approx(0.85, abs=0.06)
    assert found["log_likelihood"] == pytest.approx(-truth, abs=0.15)
    assert found["uniform_accuracy"] == 0.25 and found["uniform_log_likelihood"] == pytest.approx(-np.log(4))
    assert [agent["accuracy"] for agent in found["agents"]] == pytest.approx([0.85, 0.85], abs=0.1)


def test_the_entropy_of_uniform_and_of_deterministic_play(clones):
    assert clone.figures(clones["uniform"], 2)["entropy_share"] > 0.95
    assert clone.figures(clones["uniform"], 2)["accuracy"] < 0.33
    assert clone.figures(clones["deterministic"], 2)["entropy_share"] < 0.15
    assert clone.figures(clones["deterministic"], 2)["accuracy"] > 0.93


def test_a_fit_is_repeated_by_its_seed(clones):
    again = clone_of(play(scripted))
    np.testing.assert_array_equal(again.nll, clones["scripted"].nll)
    assert not np.array_equal(clone_of(play(scripted), seed=1).nll, again.nll)


def test_the_gradient_is_that_of_the_mean_log_likelihood():
    rng, sizes = np.random.default_rng(0), [(5, 6), (6, 6), (6, 4)]
    weights = rng.normal(size=sum((i + 1) * o for i, o in sizes)).astype(np.float32)
    action = rng.integers(0, 4, 9).astype(np.int32)
    avail = (rng.random((9, 4)) < 0.6) | (np.arange(4) == action[:, None])
    data = clone.Data(rng.normal(size=(9, 5)).astype(np.float32), avail, action)

    def mean_nll(net):
        x = data.features
        for k, (weight, bias) in enumerate(net):
            x = (jax.nn.relu(x) if k else x) @ weight + bias
        log = jax.nn.log_softmax(x, where=avail)
        return -log[np.arange(9), action].mean()

    net = clone.layers(weights, sizes)
    expected = np.concatenate([part.ravel() for part in jax.tree.leaves(jax.grad(mean_nll)(net))])
    np.testing.assert_allclose(clone.gradient(net, data), expected, rtol=1e-4, atol=1e-6)


def test_layers_are_parts_of_one_vector():
    weights = np.arange(9, dtype=np.float32)
    (first, bias), (second, last) = clone.layers(weights, [(2, 2), (2, 1)])
    assert first.tolist() == [[0, 1], [2, 3]] and bias.tolist() == [4, 5]
    assert second.tolist() == [[6], [7]] and last.tolist() == [8]
    weights += 1
    assert last.tolist() == [9]


def test_illegal_actions_have_no_probability_and_forced_choices_do_not_count():
    block = play(uniform)
    block.flat["avail"][:, 1, 1:] = False
    block.flat["avail"][:, 0, 3] = False
    block.flat["action"][:, 1] = 0
    block.flat["action"][:, 0] %= 3
    found = clone_of(block)
    assert set(found.sample.agent) == {0}
    assert found.policy[:, 3].max() < 1e-6 and found.legal.tolist() == [3] * len(found.legal)
    assert clone.figures(found, 2)["agents"][1] is None


def test_the_sample_carries_the_last_action_of_the_same_episode():
    block = play(scripted, episodes=8)
    sample = clone.take(block, np.arange(8) != 3)
    assert sorted(set(sample.episode)) == [0, 1, 2, 4, 5, 6, 7]
    last = sample.features[:, 3:7].reshape(-1, 2, 4)  # step by step, agent by agent
    first = np.arange(len(last)) % STEPS == 0
    assert (last[first] == 0).all() and (last[~first].sum(axis=-1) == 1).all()
    action = sample.action.reshape(-1, 2)
    assert (last[1].argmax(-1) == action[0]).all()


def test_episodes_are_drawn_until_the_sample_is_full():
    length, sound = np.full(50, 10), np.arange(50) != 7
    picked = clone.chosen(length, sound, 2, 4, 0, most_choices=100)
    assert picked.sum() == 5 or (picked.sum() == 6 and not picked[7])
    assert not picked[7] and (clone.chosen(length, sound, 2, 4, 0, most_choices=100) == picked).all()


def test_too_few_episodes_are_not_cloned():
    assert clone_of(play(scripted, episodes=5)) is None


# --- one policy or several


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("scripted", "one"),
        ("uniform", "one"),
        ("deterministic", "one"),
        ("two_habits", "several"),
        ("sober_and_drunk", "several"),
    ],
)
def test_a_mixture_is_told_from_one_policy(clones, name, answer):
    found = clones[name]
    judged = mixture.episode_likelihood(found, np.arange(EPISODES), np.arange(EPISODES, dtype=float))
    numbers = mixture.figures(found, judged)
    if answer == "one":  # with so few episodes chance alone may leave it unclear
        assert numbers["policies"] != "several" and max(numbers["agreement"].values()) < 0.3
    else:
        assert numbers["policies"] == "several", numbers
    if name == "scripted":
        assert abs(numbers["z_mean"]) < 1 and 0.6 < numbers["z_std"] < 1.7
    if name == "sober_and_drunk":
        assert numbers["z_std"] > 2


def test_z_goes_with_the_return_where_the_drunk_lose(clones):
    returns = np.arange(EPISODES) % 2 * 10.0  # the sober episodes have return 10
    judged = mixture.episode_likelihood(clones["sober_and_drunk"], np.arange(EPISODES), returns)
    assert mixture.figures(clones["sober_and_drunk"], judged)["z_with_return"] < -0.8


def test_components_of_returns():
    rng = np.random.default_rng(0)
    won = np.arange(1000) < 300
    returns = np.where(won, 20 + rng.normal(size=1000), 5 + 2 * rng.normal(size=1000))
    low, high = mixture.components(returns, won)
    assert (low["weight"], high["weight"]) == pytest.approx((0.7, 0.3), abs=0.02)
    assert (low["mean"], high["mean"]) == pytest.approx((5, 20), abs=0.3)
    assert (low["std"], high["std"]) == pytest.approx((2, 1), abs=0.2)
    assert (low["win_rate"], high["win_rate"]) == pytest.approx((0, 1), abs=0.01)
    assert len(mixture.components(rng.normal(size=2000), np.zeros(2000, bool))) == 1


def test_components_of_discrete_and_of_equal_returns():
    (one,) = mixture.components(np.full(50, 3.0), np.zeros(50, bool))
    assert one["mean"] == 3 and one["weight"] == 1
    two = mixture.components(np.repeat([0.0, 1.0], 100), np.repeat([False, True], 100))
    assert [part["mean"] for part in two] == pytest.approx([0, 1], abs=1e-3)
    assert min(part["std"] for part in two) == pytest.approx(mixture.SHARPEST)


def test_drift_along_the_order():
    rng = np.random.default_rng(0)
    still = rng.normal(size=1000)
    assert abs(mixture.drift(still)["parts"]) < 3
    moved = mixture.drift(still + np.linspace(0, 1, 1000))
    assert moved["parts"] > 6 and moved["correlation"] > 0.2
    assert mixture.drift(np.ones(10)) == {"correlation": 0.0, "parts": 0.0}


# --- the verdict


SOUND = Figures(
    episodes=2000,
    errors=0,
    warnings=0,
    agents=3,
    wins=True,
    level=0.3,
    constant_return=False,
    entropy_share=0.4,
    gap=0.05,
    sampled=1.0,
    policies="one",
)


def say(**changes):
    return {s.topic: s for s in recommendations(SOUND._replace(**changes))}


def alpha(statements):
    (change,) = [c for c in statements["regulariser"].changes if "alpha" in c]
    return float(change.partition("=")[2])


@pytest.mark.parametrize("rule", RULES["regulariser"])
def test_a_regulariser_is_said_as_it_is_set(rule):
    said = float(rule.sentence.partition("α = ")[2].split()[0].rstrip(".,"))
    assert f"offline_loss.alpha={said}" in rule.changes


def test_the_verdict_follows_the_figures():
    assert alpha(say(entropy_share=0.1, level=0.9)) > alpha(say()) > alpha(say(entropy_share=0.8))
    assert (
        "narrow" in say(entropy_share=0.1)["breadth"].sentence and "10 %" in say(entropy_share=0.1)["breadth"].sentence
    )
    assert "broad:" in say(entropy_share=0.8)["breadth"].sentence
    assert "good: 90 %" in say(level=0.9)["quality"].sentence and "poor" in say(level=0.1)["quality"].sentence
    assert "few" in say(episodes=20)["amount"].sentence and "thin" in say(gap=0.5)["amount"].sentence
    assert (
        "enough" in say(gap=0.5, sampled=0.2)["amount"].sentence
    )  # the gap of a small sample says nothing of the data
    assert "cannot be used" in say(errors=2)["use"].sentence
    assert "same return" in say(constant_return=True)["quality"].sentence
    assert "Several" in say(policies="several")["policies"].sentence
    assert "order" in say(drift=20.0) and "order" not in say()
    assert "many agents" in say(agents=10) and "many agents" not in say()


@settings(max_examples=50, deadline=None)
@given(
    level=st.floats(0, 1),
    entropy=st.none() | st.floats(0, 1),
    policies=st.sampled_from([None, "one", "several", "unclear"]),
    agents=st.integers(1, 12),
    wins=st.booleans(),
)
def test_every_suggestion_is_a_change_that_training_takes(level, entropy, policies, agents, wins):
    """Whatever the figures: every main topic has a statement, and the changes fit the method."""
    said = recommendations(
        SOUND._replace(level=level, entropy_share=entropy, policies=policies, agents=agents, wins=wins)
    )
    topics = {s.topic for s in said}
    assert topics >= {"use", "amount", "quality", "breadth", "regulariser", "offline share", "exploration"}
    changes = tuple(change for statement in said for change in statement.changes)
    change_method(METHODS["ovmse"], changes)
    assert all(f'--change "{change}"' in command("smax:3m", "data", said) for change in changes)


def test_every_rule_has_a_reason():
    rules = [rule for of_topic in RULES.values() for rule in of_topic]
    assert all(rule.reason.endswith(".") and rule.sentence.endswith(".") for rule in rules)


def test_bins_hold_everything():
    edges = bin_edges(np.array([3.0, 3.0]))
    assert edges[0] < 3 < edges[-1]
