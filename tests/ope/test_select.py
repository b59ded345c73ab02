"""Choosing offline: fitted Q evaluation against values known by hand, agreement, intervals, ranks, the command."""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.episodes import (
    SPEC,
    as_jax,
    play_plan,
    random_episode,
    random_team,
    replay_of,
    small_run,
    write_dataset,
    write_two_step,
)
from support.shared import once

import ovmse
from ovmse import envs
from ovmse.analysis.agreement import agreement, discounted_returns, matching_return
from ovmse.cli.main import main
from ovmse.core.action_selection import greedy
from ovmse.core.errors import UserError
from ovmse.core.networks import unroll
from ovmse.learning.fqe import joint_actions
from ovmse.learning.replay import from_flat
from ovmse.ope.results import Agreed, agree, unsettled
from ovmse.ope.select import settled_gamma
from ovmse.ope.settings import Selecting
from ovmse.stats import ranking
from ovmse.training.fitting import fitter

pytestmark = pytest.mark.slow

GAMMA = 0.9


def selecting(**changes) -> Selecting:
    """Settings of a small fit."""
    settings = {
        "runs": (Path("run"),),
        "data": "data",
        "gamma": GAMMA,
        "updates": 600,
        "learning_rate": 0.01,
        "target_rate": 0.1,
        "batch_episodes": 16,
        "hidden": 8,
    }
    return Selecting(**{**settings, **changes})


def fitted(settings, spec, data, policies):
    """The values of policies at the first rows of a log."""
    return fitter(settings.fit(settings.updates), spec, data, len(policies))(policies, lambda done, clock: None)


def every_plan(path, game):
    """A log with every joint plan of a game once."""
    spec = envs.make(f"matrix:{game}").spec
    joint = list(itertools.product(range(spec.n_actions), repeat=2))
    plans = [list(plan) for plan in itertools.product(joint, repeat=spec.episode_limit)]
    episodes, won = zip(*[play_plan(game, plan) for plan in plans], strict=True)
    return write_dataset(path, spec, episodes, won)


def by_stage(dataset, at):
    """The joint action of a policy at every row of a log: `at` gives one for each stage (the observation)."""
    data = from_flat(dataset.flat, dataset.spec)
    stage = np.asarray(data.rows.state).argmax(axis=-1)
    return np.asarray(at, np.uint8)[stage]


def true_value(game, at):
    """The discounted return of a policy in a matrix game, played out."""
    env = envs.make(f"matrix:{game}")
    state, view = env.reset(jax.random.key(0))
    value, discount, over = 0.0, 1.0, False
    while not over:
        action = np.asarray(at)[int(np.asarray(view.state).argmax())]
        state, view, outcome = env.step(jax.random.key(0), state, jnp.asarray(action))
        value, discount, over = value + discount * float(outcome.reward), discount * GAMMA, bool(outcome.terminal)
    return value


# Fitted Q evaluation


def test_the_value_of_policies_in_the_two_step_game(tmp_path):
    dataset = every_plan(tmp_path / "log", "two_step")
    at = [[(0, 0), (0, 1), (1, 1)], [(1, 0), (0, 0), (1, 1)], [(1, 1), (1, 0), (0, 1)], [(1, 0), (0, 0), (0, 0)]]
    true = [7 * GAMMA, 8 * GAMMA, 1 * GAMMA, 0.0]
    assert [true_value("two_step", one) for one in at] == pytest.approx(true)
    policies = np.stack([by_stage(dataset, one) for one in at])
    found = fitted(selecting(), dataset.spec, from_flat(dataset.flat, dataset.spec), policies)
    assert found.start.shape == (4, 1, 16)
    assert found.start.mean(axis=(1, 2)) == pytest.approx(true, abs=0.3)


def test_the_value_of_policies_in_the_climbing_game(tmp_path):
    dataset = every_plan(tmp_path / "log", "climbing")
    policies = np.stack([by_stage(dataset, [one]) for one in ((0, 0), (0, 1), (2, 0), (2, 2))])
    settings = selecting(updates=2000, learning_rate=0.005, hidden=16)
    found = fitted(settings, dataset.spec, from_flat(dataset.flat, dataset.spec), policies)
    assert found.start.mean(axis=(1, 2)) == pytest.approx([11, -30, 0, 5], abs=0.5)


def test_only_steps_at_which_the_log_follows_a_policy_count(tmp_path):
    """The same log, but for other rewards of all that the policy would not do: the same values, bit for bit."""
    dataset = every_plan(tmp_path / "log", "climbing")
    policy = by_stage(dataset, [(0, 2)])
    flat = dict(dataset.flat)
    followed = (flat["action"] == (0, 2)).all(axis=-1)
    assert 0 < followed.sum() < len(followed)
    settings, found = selecting(updates=50), []
    for other in (0.0, 100.0):
        data = from_flat({**flat, "reward": np.where(followed, flat["reward"], other)}, dataset.spec)
        found.append(fitted(settings, dataset.spec, data, policy[None]).start)
    np.testing.assert_array_equal(*found)
    everything = from_flat({**flat, "reward": np.where(followed, 100.0, flat["reward"])}, dataset.spec)
    assert not np.array_equal(fitted(settings, dataset.spec, everything, policy[None]).start, found[0])


def test_what_is_told_of_half_of_a_fit_is_what_a_fit_of_half_the_length_finds(tmp_path):
    dataset = every_plan(tmp_path / "log", "climbing")
    data, policies = from_flat(dataset.flat, dataset.spec), by_stage(dataset, [(0, 0)])[None]
    whole, half = (fitted(selecting(updates=n), dataset.spec, data, policies) for n in (7, 3))
    np.testing.assert_array_equal(whole.halfway, half.start)
    assert not np.array_equal(whole.halfway, whole.start)


def test_padding_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, length) for length in (3, 6, 1, 4)]
    longer = SPEC._replace(episode_limit=9)
    settings, found = selecting(updates=20, batch_episodes=4, hidden=8), []
    for name, spec in (("short", SPEC), ("long", longer)):
        more = spec.episode_limit - SPEC.episode_limit
        grown = [jax.tree.map(lambda x: np.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)), e) for e in episodes]  # noqa: B023
        data = replay_of(write_dataset(tmp_path / name, spec, grown))
        policy = np.asarray(joint_actions(random_team(1), as_jax(data), spec.episode_limit))
        rows = int(data.index.start[-1] + data.index.length[-1] + 1)
        found.append((policy[:rows], fitted(settings, spec, data, policy[None]).start))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [{}, {"policy": True}, {"critics": 2}])
def test_what_a_team_would_do_is_its_greedy_action_in_every_episode(tmp_path, parts):
    rng = np.random.default_rng(1)
    dataset = write_dataset(tmp_path / "log", SPEC, [random_episode(rng, n) for n in (2, 6, 5)])
    team, data = random_team(0, **parts), from_flat(dataset.flat, dataset.spec)
    policy = np.asarray(joint_actions(team, as_jax(data), int(data.index.length.max())))
    for i in range(3):
        episode, start = as_jax(dataset.episode(i)), int(data.index.start[i])
        expected = greedy(unroll(team.agent, episode).acting, episode.avail)
        np.testing.assert_array_equal(policy[start : start + len(expected)], expected)


# Agreement


def test_coverage_by_hand(tmp_path):
    dataset = every_plan(tmp_path / "log", "two_step")
    one = agreement(dataset.flat, by_stage(dataset, [(1, 0), (0, 0), (1, 1)]))
    # first: 4 of 16 episodes. Then: (0, 0) after agent 0's action 0, (1, 1) after 1: again a quarter
    assert one.coverage == pytest.approx(0.25)
    assert one.agent_coverage == pytest.approx(0.5) and one.by_agent == pytest.approx((0.5, 0.5))
    assert sorted(one.followed)[-1] == 1.0 and (one.followed == 1.0).sum() == 1


def test_steps_without_a_choice_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    episode = random_episode(rng, 4)
    only = np.zeros_like(episode.avail)
    np.put_along_axis(only[:-1], episode.action[..., None], True, axis=-1)
    only[:, :, 0] |= ~only.any(axis=-1)
    dataset = write_dataset(tmp_path / "log", SPEC, [episode._replace(avail=only)])
    found = agreement(dataset.flat, np.zeros((8, 3), np.uint8))
    assert found.coverage is None and found.agent_coverage is None and found.by_agent == (None, None, None)
    assert found.followed.tolist() == [1.0]


def test_matching_returns_are_refused_where_too_few_episodes_follow():
    returns, followed = np.array([1.0, 2.0, 6.0]), np.array([1.0, 0.5, 1.0])
    refused = matching_return(returns, followed, share=1.0, least=3)
    assert refused.value is None and refused.episodes == 2 and "2 episodes follow" in refused.reason
    found = matching_return(returns, followed, share=1.0, least=2)
    assert found.value == 3.5 and found.reason is None and (found.low, found.high) == (1.0, 6.0)


def test_matching_in_a_uniform_log_is_the_true_value(tmp_path):
    dataset = every_plan(tmp_path / "log", "two_step")
    at = [(1, 0), (0, 0), (1, 1)]
    returns = discounted_returns(dataset.flat, GAMMA)
    found = matching_return(returns, agreement(dataset.flat, by_stage(dataset, at)).followed, share=1.0, least=1)
    assert found.value == pytest.approx(true_value("two_step", at))


# Intervals and ranks


def test_the_bootstrap_is_that_of_all_resamples():
    values = np.array([[[0.0, 1.0, 5.0], [2.0, 2.0, 8.0]]])
    fits, episodes = list(itertools.product(range(2), repeat=2)), list(itertools.product(range(3), repeat=3))
    every = [values[0][np.ix_(f, e)].mean() for f in fits for e in episodes]
    means = ranking.bootstrap_means(values, resamples=20_000)
    assert means.mean() == pytest.approx(np.mean(every), abs=0.03)
    for value in np.unique(np.round(every, 6)):
        assert (means <= value + 1e-5).mean() == pytest.approx(np.mean(np.array(every) <= value + 1e-5), abs=0.015)


def test_one_fit_and_equal_rows_have_no_width():
    low, high = ranking.interval(ranking.bootstrap_means(np.full((1, 1, 4), 3.0), resamples=50))
    assert low == pytest.approx(3.0) and high == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlations_are_scipys(seed):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, size=(2, 12)).astype(float)
    assert ranking.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert ranking.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_a_constant_has_no_rank_correlation():
    x = np.arange(3.0)
    assert ranking.spearman(x, np.ones(3)) is None and ranking.kendall(np.ones(3), x) is None


def test_order_and_regret():
    assert ranking.order([1.0, None, 5.0, 3.0], [False, False, True, False]) == [3, 0, 2, 1]
    scores, truth = np.array([2.0, 7.0, 7.0]), np.array([0.9, 0.2, 0.4])
    assert ranking.regret_at_1(scores, truth, best=1.0) == pytest.approx(0.7)


# The command


def two_runs(folder):
    """Two runs of two methods on the two-step game, with their teams on the way, and their log."""
    data = write_two_step(folder / "data")
    settings = {"seeds": 2, "data": data, "keep_teams": True, "change": ("online_target=None",)}
    for method in ("finetune", "bc"):
        ovmse.train(small_run(folder / method, method=method, **settings))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return once(tmp_path_factory, "selected", two_runs)


def small_selection(folder, **changes) -> Selecting:
    """A selection of seconds."""
    given = {"runs": (folder / "finetune", folder / "bc"), "data": str(folder / "data"), "updates": 30, **changes}
    return selecting(**given)


def test_a_selection_ranks_every_team_and_its_choice_goes_on(runs, tmp_path, capsys):
    words = [str(runs / "finetune"), str(runs / "bc"), "--data", str(runs / "data"), "--updates", "30"]
    assert main(["select", *words, "--truth", "--hidden", "8", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "selection.json").read_text())
    teams = record["teams"]
    assert [team["rank"] for team in teams] == list(range(1, 13))  # 2 runs, 2 seeds, updates 0, 20 and 40
    assert {team["updates"] for team in teams} == {0, 20, 40}
    covered = [team["fqe_low"] for team in teams if team["covered"]]
    assert covered == sorted(covered, reverse=True)
    assert all((team["own_value"] is None) == (team["method"] == "bc") for team in teams)
    assert {one["score"] for one in record["truth"]} >= {"fqe_low", "own_value", "coverage"}
    assert f"Next: {record['next']}\n" in shown and "--pretrained" in record["next"]
    assert f"Written: {tmp_path / 'out'}/selection.md" in shown
    first, chosen = teams[0], tmp_path / "out" / "chosen"
    kept = load_file(chosen / "offline.safetensors")
    there = load_file(first["file"])
    assert all(np.array_equal(kept[name][0], there[name][first["seed"]]) for name in kept)
    settings = json.loads((chosen / "config.json").read_text())
    assert (settings["seed"], settings["seeds"]) == (first["seed"], 1)
    online = ovmse.train(
        dataclasses.replace(
            small_run(tmp_path / "on"),
            **{"method": "finetune" if first["method"] == "finetune" else "jsrl+bc", "pretrained": chosen},
            **{"seeds": 1, "seed": first["seed"], "data": str(runs / "data")},
        )
    )
    assert online.rows[-1]["phase"] == "online"


def test_a_policy_that_the_log_does_not_follow_is_marked_and_ranked_behind(runs, tmp_path):
    found = ovmse.select(small_selection(runs, checkpoints="offline", least_coverage=1.0, out=tmp_path / "out"))
    assert not any(row.covered for row in found.rows)
    assert "Not covered (4)" in (found.out / "selection.md").read_text()


def test_equal_policies_have_equal_estimates_whatever_else_is_judged(runs, tmp_path):
    alone = ovmse.select(small_selection(runs, runs=(runs / "bc",), checkpoints="offline", out=tmp_path / "a"))
    beside = ovmse.select(small_selection(runs, checkpoints="offline", out=tmp_path / "b"))
    by_name = {row.candidate.name: row.fqe for row in beside.rows}
    for row in alone.rows:
        assert by_name[row.candidate.name] == pytest.approx(row.fqe, rel=1e-4)


def test_the_last_teams_are_refused_or_ranked(runs, tmp_path):
    found = ovmse.select(small_selection(runs, checkpoints="last", out=tmp_path / "out"))
    assert {row.candidate.file.name for row in found.rows} == {"teams.safetensors"}


def test_runs_of_other_environments_are_refused(runs, tmp_path):
    other = write_dataset(tmp_path / "log", SPEC, [random_episode(np.random.default_rng(0), 3)])
    with pytest.raises(UserError, match="finetune can't be judged by this dataset.*other sizes"):
        ovmse.select(small_selection(runs, data=str(other.path), out=tmp_path / "out"))
    climbing = every_plan(tmp_path / "climbing", "climbing")
    with pytest.raises(UserError, match="other sizes"):
        ovmse.select(small_selection(runs, data=str(climbing.path), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ()}, "at least one run"),
        ({"data": None}, "give --data"),
        ({"gamma": 1.5}, "gamma must lie between"),
        ({"fits": 0}, "fits must be greater"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        selecting(**changes)


def test_teams_are_judged_by_the_discount_that_they_learned_with():
    assert settled_gamma(None, [0.9, 0.9]) == 0.9 and settled_gamma(0.8, [0.9, 0.95]) == 0.8
    with pytest.raises(UserError, match=r"learned with γ of 0.9 and 0.95: .*--gamma 0.95"):
        settled_gamma(None, [0.95, 0.9, 0.95])


def test_estimates_that_still_move_are_named(runs, tmp_path):
    short = ovmse.select(small_selection(runs, runs=(runs / "bc",), updates=2, out=tmp_path / "short"))
    assert (unsettled(short) in (tmp_path / "short" / "selection.md").read_text()) and short.rows[0].moved != 0
    known = {"fqe": -10.0, "covered": True}
    rows = [dataclasses.replace(short.rows[0], moved=moved, **known) for moved in (0.5, -0.6)]
    found = dataclasses.replace(short, rows=rows, logged=8.0)
    assert "their 2 updates the estimates of 1 of 2 teams moved by more than 5%, up to 0.6." in unsettled(found)
    assert unsettled(dataclasses.replace(found, rows=rows[:1])) is None
    assert unsettled(dataclasses.replace(found, logged=12.0)) is None  # little beside what the log's episodes earned
    assert unsettled(dataclasses.replace(found, rows=[dataclasses.replace(rows[1], covered=False)])) is None


def test_fits_take_more_updates_until_they_settle(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("ovmse.ope.select.UPDATES", (2, 4, 8))
    few = small_selection(runs, runs=(runs / "bc",), checkpoints="offline", least_coverage=0.0, updates=None)
    for moves, updates in ((True, 8), (False, 2)):
        monkeypatch.setattr("ovmse.ope.select.settled", lambda fqe, moved, logged: np.full(len(fqe), not moves))  # noqa: B023
        found = ovmse.select(dataclasses.replace(few, out=tmp_path / str(moves)))
        assert found.updates == updates
        alone = ovmse.select(dataclasses.replace(few, updates=updates, out=tmp_path / f"{moves}-alone"))
        assert [row.fqe for row in found.rows] == [row.fqe for row in alone.rows]


def test_a_column_without_values_is_left_out(runs, tmp_path):
    found = ovmse.select(small_selection(runs, runs=(runs / "bc",), checkpoints="offline", out=tmp_path / "out"))
    assert agree(found.rows, "own_value", "return") is None
    assert isinstance(agree(found.rows, "fqe", "return"), Agreed)
