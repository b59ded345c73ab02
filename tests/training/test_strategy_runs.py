"""Strategies in whole runs: priorities, warm-up, guides and fresh networks, taken over, stopped, resumed and judged."""

import dataclasses
import json

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from support.episodes import (
    SMALL,
    SPEC,
    as_jax,
    method_run,
    random_episode,
    random_team,
    replay_of,
    stack,
    write_dataset,
    write_two_step,
)
from support.stopping import StopIn, assert_same_rows

from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.learning import batches, learner, phases, replay as replays, update
from ovmse.learning.phases import begin
from ovmse.learning.rollout import Rollout
from ovmse.methods import METHODS
from ovmse.methods.balanced import DensityRatio
from ovmse.methods.method import Method, combine
from ovmse.methods.signatures import LossInputs
from ovmse.system.signals import Interrupted
from ovmse.training.display import Display
from ovmse.training.evaluate_run import evaluate_run
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]

T = SPEC.episode_limit


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step")


def brief(out, method, **changes):
    """A run of one seed with few updates."""
    quick = {"offline_updates": 10, "online_env_steps": 32, "evaluate_every_updates": 10}
    return method_run(out, method=method, **{**quick, "evaluate_every_env_steps": 16, **changes})


# Priorities


PRIORITIES = st.lists(st.sampled_from([0.0, 1e-3, 0.2, 1.0, 7.0]), min_size=12, max_size=12)
TWELVE = replays.empty(SPEC, 24).index
draw = jax.jit(lambda key, priority: replays.draw(TWELVE, key, 500, priority))


@settings(max_examples=50, deadline=None)
@given(priority=PRIORITIES, seed=st.integers(0, 999))
def test_an_episode_of_priority_0_is_never_drawn(priority, seed):
    if not any(priority):
        priority[0] = 1.0
    drawn = draw(jax.random.key(seed), jnp.asarray(priority, jnp.float32))
    assert all(priority[slot] > 0 for slot in np.asarray(drawn).tolist())


def test_draws_follow_the_priorities():
    priority = np.array([0.5, 0.0, 2.0, 1e-3, 1.0, 3.0])
    drawn = replays.draw(replays.empty(SPEC, 12).index, jax.random.key(0), 40_000, jnp.asarray(priority, jnp.float32))
    counts, expected = np.bincount(np.asarray(drawn), minlength=6), 40_000 * priority / priority.sum()
    assert counts[1] == 0
    assert stats.chisquare(counts[priority > 0], expected[priority > 0]).pvalue > 1e-3


def test_an_update_renews_the_priorities_of_the_drawn_episodes_alone(tmp_path):
    """Which are drawn, how often each was to be, and what they are worth to the networks before the update."""
    config = Config(env=SPEC.name, batch_episodes=8, replay_env_steps=60, learner=SMALL)
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, 1 + i % T) for i in range(10)]
    data = as_jax(replay_of(write_dataset(tmp_path / "data", SPEC, episodes)))
    replay = replays.empty(SPEC, replays.size_of(SPEC, 60))
    replay = replays.insert_all(replay, stack(episodes[:3]), jnp.zeros((3, T)), jnp.zeros(3, bool))
    state = learner.restart(config.learner, random_team(0, ratio=True))
    priority = jnp.asarray([0.0, 3.0, 0.0, 0.5, 1.0, 1.0, 0.0, 2.0, 0.25, 1.0])
    share = jnp.float32(0.6)

    def often(inputs: LossInputs):
        return 0.0 * inputs.td_target + inputs.drawn

    objective = learner.Objective(often, lambda td, memory: td, priority=DensityRatio(), whole_episodes=True)

    @eqx.filter_jit
    def run(key):
        mixed = batches.Data(data, share, priority)
        _, metrics, renewed = update.update(config, SPEC, objective, state, replay, mixed, key, [T])
        k_draw, k_data, k_share, _ = jax.random.split(key, 4)
        slots = replays.draw(data.index, k_data, 8, priority)
        own = replays.draw(replay.index, k_draw, 8)
        return metrics.losses.loss, renewed, slots, own, (jnp.arange(8) + jax.random.uniform(k_share)) / 8 < share

    def worth(episode):
        (w1, b1), (w2, b2) = ((np.asarray(x.weight), np.asarray(x.bias)) for x in state.team.ratio.layers)
        joint = np.eye(SPEC.n_actions)[episode.action].reshape(T, -1)
        z = np.maximum(np.concatenate([episode.state[:-1], joint], axis=1) @ w1.T + b1, 0) @ w2.T + b2
        return np.exp(z[:, 0] / 5)[episode.valid].mean()

    for seed in range(5):
        loss, renewed, slots, own, from_data = map(np.asarray, run(jax.random.key(seed)))
        drawn = set(slots[from_data].tolist())
        assert 0 < len(drawn) < 10 and not drawn & {0, 2, 6}
        for slot in range(10):
            expected = worth(episodes[slot]) if slot in drawn else float(priority[slot])
            assert renewed[slot] == pytest.approx(expected, rel=1e-3)
        lengths = [1 + slot % T for slot in np.where(from_data, slots, own)]
        each = np.where(from_data, np.asarray(priority)[slots] / float(priority.mean()), 1.0)
        assert loss == pytest.approx((each * lengths).sum() / sum(lengths), rel=1e-4)


# Warm-up


def test_nothing_is_learned_before_the_warm_up_is_over():
    config = Config(
        env=SPEC.name, online_env_steps=40, updates_per_collect=3, batch_episodes=4, replay_env_steps=60, learner=SMALL
    )
    method = dataclasses.replace(METHODS["wsrl"], warm_up=0.5)
    state = phases.handover(
        config, SPEC, method, begin(learner.restart(SMALL, random_team(0)), jax.random.key(0)), None
    )
    episodes = [random_episode(np.random.default_rng(n), n) for n in (2, 4)]
    played = Rollout(stack(episodes), jnp.zeros(2, bool))
    run = eqx.filter_jit(lambda s: phases.learn_online(config, SPEC, method, s, played, None, [T]))
    before = state.learner.team
    for turn in range(1, 6):  # 6 steps each: 20 of them are the warm-up
        state = run(state._replace(sums=phases.zero_sums()))
        assert int(state.sums.updates) == (0 if turn < 4 else 3)
        assert int(state.learner.updates) == 3 * max(0, turn - 3)
        assert eqx.tree_equal(state.learner.team, before) == (turn < 4)
        assert int(state.replay.index.written) == 2 * turn  # what was played meanwhile is learned from
    assert METHODS["wsrl"].memory is None and not METHODS["wsrl"].mixes_data


# Stopped, resumed, judged


@pytest.mark.parametrize("method", ["balanced", "duce", "reincarnation"])
def test_a_strategy_stopped_and_resumed_ends_as_undisturbed_and_can_be_judged(method, tmp_path, log):
    whole = train(brief(tmp_path / "whole", method, data=log))
    stopped = brief(tmp_path / "stopped", method, data=log)
    with pytest.raises(Interrupted):
        train(stopped, StopIn("online"))
    ended = train(stopped, resume=True)
    assert_same_rows(ended.rows, whole.rows, rel=0.0)
    for a, b in zip(jax.tree.leaves(ended.teams), jax.tree.leaves(whole.teams), strict=True):
        np.testing.assert_array_equal(a, b)
    last = evaluate_run(stopped, stopped.out, 4, 7, "last", Display())
    assert [row["return"] for row in last] == [ended.rows[-1]["return"]]  # the game has no chance in it
    offline = evaluate_run(stopped, stopped.out, 4, 7, "offline", Display())
    pretrained = [row for row in ended.rows if row["phase"] == "offline"][-1]
    assert [row["return"] for row in offline] == [pretrained["return"]]


# Taken over


def test_one_offline_phase_serves_all_strategies_with_its_networks(tmp_path, log):
    offline = brief(tmp_path / "offline", "offline", data=log)
    first, named = train(offline), dataclasses.replace(offline.learner, mixer="qmix")  # which it is by default
    named = dataclasses.replace(named, learning_rate=0.02, td_lambda=0.5, gamma=0.9)  # no matter of the networks
    for method, networks in (("pex", offline.learner), ("sim2o", offline.learner), ("wsrl", named)):
        found = train(brief(tmp_path / method, method, data=log, pretrained=first.out, learner=networks))
        assert [row["phase"] for row in found.rows][:3] == ["offline", "offline", "online"]
        assert found.rows[2]["return"] == first.rows[-1]["return"] and found.handover["seeds"][0]["agree"]
        assert (found.out / "offline.safetensors").read_bytes() == (first.out / "offline.safetensors").read_bytes()
    with pytest.raises(UserError, match="other networks: critics 1 there, 2 here; ratio False there, True here"):
        train(brief(tmp_path / "no", "balanced", data=log, pretrained=first.out))
    assert not (tmp_path / "no").exists()
    with pytest.raises(UserError, match=r"phase of seeds \[7\]; it has \[0\]. .* with --pretrained-seed one"):
        train(brief(tmp_path / "no", "pex", data=log, seed=7, pretrained=first.out))
    found = train(brief(tmp_path / "two", "pex", data=log, seed=7, seeds=2, pretrained=first.out, pretrained_seed=0))
    start = [row for row in found.rows if row["phase"] == "offline"]
    assert start == [row | {"seed": seed} for row in first.rows for seed in (7, 8)]
    assert {row["seed"] for row in found.rows} == {7, 8}
    ends = [jax.tree.map(lambda x: np.asarray(x)[i], found.teams) for i in range(2)]  # noqa: B023
    assert not eqx.tree_equal(*ends)  # seeds differ in all but their first team


@pytest.mark.parametrize("method", ["pex", "jsrl"])
def test_a_run_that_takes_over_an_offline_phase_ends_as_one_with_its_own(method, tmp_path, log):
    alone = train(brief(tmp_path / "alone", method, data=log, seeds=2))
    offline = train(brief(tmp_path / "offline", method, data=log, seeds=2, change=("online_target=None",)))
    found = train(brief(tmp_path / "taken", method, data=log, seeds=2, pretrained=offline.out))
    assert_same_rows(found.rows, alone.rows, rel=0.0)
    ends = [json.loads((run.out / "summary.json").read_text())["state_sha256"] for run in (found, alone)]
    assert ends[0] == ends[1]


# Pairs


REASONS = (
    "needs an online phase", "no offline phase", "needs an offline loss", "of their own", "learns no", "learns none",
)  # fmt: skip


@pytest.mark.parametrize("strategy", METHODS)
def test_every_pair_is_a_method_or_refused_in_a_sentence(strategy):
    for objective in METHODS:
        try:
            found = combine(METHODS[strategy], METHODS[objective])
        except UserError as error:
            assert any(reason in str(error) for reason in REASONS), str(error)
            assert "\n" not in str(error) and str(error).endswith(".")
            continue
        ours, theirs = METHODS[strategy], METHODS[objective]
        assert isinstance(found, Method) and found.offline_loss == theirs.offline_loss
        kept = ("online_target", "explore", "acting_utilities", "offline_share", "priority", "warm_up", "memory")
        for name in (*kept, "reinitialise_online"):
            assert getattr(found, name) == getattr(ours, name)
        if ours.reinitialise_online:
            assert (found.parts, found.parts_online) == (theirs.parts, ours.parts_online)
            assert found.online_loss == ours.online_loss


def test_the_pairs_that_cannot_be_say_why():
    for strategy, objective, says in [
        ("ovmse", "iql", "ImplicitQ learns no Q_tot"),
        ("sim2o", "iql", "Blend compares joint actions by Q_tot"),
        ("finetune", "bc", "Imitate learns no values offline"),
        ("kept", "calql", "online loss of their own .CQL and CalibratedCQL"),
        ("balanced", "awac", "online loss of their own .TellApart and AdvantageWeighted"),
        ("rlpd", "cfcql", "no offline phase that an objective could fill"),
        ("offline", "cfcql", "it needs an online phase"),
        ("ovmse", "scratch", "it needs an offline loss"),
    ]:
        with pytest.raises(UserError, match=says):
            combine(METHODS[strategy], METHODS[objective])


PAIRS = ["jsrl+bc", "pex+iql", "sim2o+omiga", "balanced+cfcql"]


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_train(pair, tmp_path, log):
    found = train(brief(tmp_path / "run", pair, data=log, offline_updates=4, online_env_steps=16))
    assert np.isfinite([row["loss"] for row in found.rows if row["loss"] is not None]).all()
    assert found.rows[-1]["phase"] == "online" and found.rows[-1]["updates"] > 4


def test_the_command_takes_and_refuses_pairs(tmp_path, log, capsys):
    common = ["train", "--env", "matrix:two_step", "--data", log, "--out", str(tmp_path / "run")]
    assert main([*common, "--method", "ovmse+iql"]) == 2
    assert "method 'ovmse+iql': OfflineValueMemory regresses Q_tot" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
