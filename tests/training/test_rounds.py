"""Batch rounds: what they learn from and remember, the verdict and what follows it, stopping, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.episodes import (
    SMALL as SMALL_LEARNER,
    SPEC,
    as_jax,
    log_run,
    random_episode,
    replay_of,
    write_dataset,
    write_plant,
)
from support.shared import once
from support.stopping import StopIn, timeless

import ovmse
from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.learning import replay as replays
from ovmse.learning.fqe import drawn_episodes, fit_settings
from ovmse.learning.replay import picked
from ovmse.runs import rounds_file
from ovmse.runs.metrics_file import checked_rows
from ovmse.stats.paired import bootstrapped_difference
from ovmse.system.signals import Interrupted
from ovmse.training import rounds
from ovmse.training.improve import round_config
from ovmse.training.rounds import in_words, verdict
from ovmse.training.setup import setup

pytestmark = pytest.mark.slow

SMALL = {"updates": 20, "evaluate_every_updates": 10, "fqe_updates": 10, "fits": 2}
WORDS = ["--updates", "20", "--evaluate-every-updates", "10", "--fqe-updates", "10", "--fits", "2"]


def two_rounds(folder):
    """A run on a log, and two rounds on what came back, by the command line; each log has rewards of its own."""
    old = write_plant(folder / "old")
    for name, more in (("new", 0.5), ("newer", 1.0)):
        write_plant(folder / name, reward=old.reward + np.float32(more))
    ovmse.train(log_run(folder / "run", folder / "old", seeds=2))
    words = ["improve", str(folder / "run"), "--data", str(folder / "new"), "--seed", "1", *WORDS]
    assert main([*words, "--out", str(folder / "run-round-1")]) == 0
    words = ["improve", str(folder / "run-round-1"), "--data", str(folder / "newer"), "--offline-value", "accepted"]
    assert main([*words, *WORDS]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return once(tmp_path_factory, "rounds", two_rounds)


def team(path, place=0):
    """One seed's arrays of a file of teams."""
    return {name: x[place] for name, x in load_file(path).items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(x, b[name]) for name, x in a.items())


# The verdict


def test_replicates_are_spread_as_the_estimate_is():
    found = bootstrapped_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (found.value, found.n) == (2.0, 3)
    assert found.high - found.value == found.value - found.low == pytest.approx(4.30265, abs=1e-4)  # t of 2, s = 1
    twice = bootstrapped_difference([1.0, 2.0, 3.0] * 9, [0.0] * 27)
    assert twice.high - twice.value > 1.6  # more replicates know s better, and leave it as large


def test_each_part_of_a_log_is_drawn_from_by_itself():
    drawn = drawn_episodes(fit_settings(SMALL_LEARNER, 4, 10, fits=50, resampled=(3, 5)), 8)
    assert (
        drawn.shape == (50, 8)
        and set(drawn[:, :3].ravel()) == {0, 1, 2}
        and set(drawn[:, 3:].ravel()) == {3, 4, 5, 6, 7}
    )
    assert len(np.unique(drawn, axis=0)) > 40
    assert drawn_episodes(fit_settings(SMALL_LEARNER, 4, 10, fits=2), 3).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("low", "allowed", "coverage", "accepted", "reason"),
    [
        (-0.1, 0.2, 0.5, True, "not worse by more than 0.2"),
        (-0.2, 0.2, 0.5, False, "may be worse by more than 0.2"),
        (0.1, 0.0, None, True, "at the lower end +0.1"),
        (0.0, 0.0, 0.5, False, "may be worse"),
        (5.0, 0.2, 0.04, False, "hardly follow the new team (4.0 %"),
        (float("nan"), 0.2, 0.5, False, "no longer a number"),
    ],
)
def test_verdicts(low, allowed, coverage, accepted, reason):
    found = verdict(low, allowed, coverage, 0.05)
    assert found[0] is accepted and reason in found[1]


@pytest.mark.parametrize("accepted", [True, False])
def test_the_team_to_deploy_is_the_accepted_one_or_the_old(accepted, made, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "verdict", lambda *_: (accepted, "told so"))
    out = ovmse.train(round_config(made / "run", str(made / "new"), tmp_path / "round", **SMALL)).out
    found = rounds_file.read(out)
    assert (found.deployed, found.file) == (
        ("last", "teams.safetensors") if accepted else ("before", "before.safetensors")
    )
    assert found.rounds[-1].accepted is accepted and found.rounds[-1].reason == "told so"
    assert main(["export", str(out), "--to", str(tmp_path / "team"), "--steps", "10"]) == 0
    exported = load_file(tmp_path / "team" / "weights.safetensors")
    deployed, other = (
        team(out / file) for file in (found.file, "teams.safetensors" if not accepted else "before.safetensors")
    )
    assert all(np.array_equal(x, deployed[name]) for name, x in exported.items())
    assert not all(np.array_equal(x, other[name]) for name, x in exported.items())
    again = round_config(out, str(made / "newer"), **SMALL)
    assert (again.round.team, again.round.number) == (found.deployed, 2)


def test_a_verdict_says_where_its_fits_still_moved(made):
    found = rounds_file.read(made / "run-round-1").rounds[-1]
    settled, moving = (dataclasses.replace(found, allowed=0.5, moved=moved) for moved in (0.4, -0.6))
    assert "--fqe-updates" not in in_words(settled)
    assert "the difference moved by -0.60 in the second half of their updates" in in_words(moving)


# What a round learns from, and remembers


def test_a_part_of_a_replay_holds_these_episodes_alone(tmp_path):
    rng = np.random.default_rng(0)
    data = as_jax(replay_of(write_dataset(tmp_path / "log", SPEC, [random_episode(rng, n) for n in (2, 6, 1, 4)])))
    part = picked(data, slice(1, 3))
    drawn = replays.draw(part.index, jax.random.key(0), 100)
    assert sorted(set(np.asarray(part.index.length)[np.asarray(drawn)].tolist())) == [1, 6]
    ours, theirs = (replays.read(x, jnp.int32(i), 6)[0] for x, i in ((part, 0), (data, 1)))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_round_goes_on_from_the_deployed_team_and_remembers_the_first(made):
    first, second = made / "run-round-1", made / "run-round-2"
    start = team(made / "run" / "teams.safetensors", 1)
    assert same(team(first / "before.safetensors"), start)
    assert same(team(first / "offline.safetensors"), start) and same(team(first / "first.safetensors"), start)
    assert not same(team(first / "teams.safetensors"), start)
    deployed = team(first / rounds_file.read(first).file)
    assert same(team(second / "before.safetensors"), deployed)
    assert same(team(second / "offline.safetensors"), deployed)  # --offline-value accepted
    assert same(team(second / "first.safetensors"), start)


def test_rounds_are_numbered_and_written_down(made):
    described = json.loads((made / "run-round-1" / "config.json").read_text())
    assert described["method"] == "ovmse" and described["change"] == [] and described["env"] == "none"
    assert described["seed"] == 1 and described["seeds"] == 1
    rows = checked_rows(made / "run-round-1" / "metrics.jsonl")
    assert [(row["phase"], row["updates"]) for row in rows] == [("round", 0), ("round", 10), ("round", 20)]
    assert [row["lambda"] for row in rows] == pytest.approx([1.0, 0.55, 0.1]) and rows[-1]["epsilon"] is None
    assert rows[0]["monitor_agreement"] == 1.0 and rows[0]["monitor_drift"] == pytest.approx(0.0, abs=1e-6)
    assert all(row["held_out_loss"] is not None and row["fqe"] is not None for row in rows)
    found = rounds_file.read(made / "run-round-2").rounds
    assert [one.number for one in found] == [1, 2]
    assert [[path.rsplit("/", 1)[-1] for path in one.earlier] for one in found] == [["old"], ["old", "new"]]
    for one in found:
        assert (one.episodes, one.held_out, one.fits) == (16, 5, 2)
        assert one.low <= one.difference <= one.high
        assert one.difference == pytest.approx(one.new.fqe - one.deployed.fqe, abs=1e-4)
        assert one.allowed == pytest.approx(0.05 * abs(one.behaviour_return))
        assert one.accepted == verdict(one.low, one.allowed, one.new.coverage, 0.05)[0]


def test_what_is_held_out_of_the_new_logs_teaches_nothing(made, tmp_path):
    config = round_config(made / "run", str(made / "new"), tmp_path / "a", **SMALL)
    split = setup(config).split
    assert len(split.kept) == 16 + 11 and min(split.held_out) >= 16
    there = Dataset.open(str(made / "new"))
    reward = there.reward.copy().reshape(16, 2)
    reward[split.held_out - 16] += 5.0
    write_plant(tmp_path / "other", reward=reward.ravel())
    for out, data in (("a", made / "new"), ("b", tmp_path / "other")):
        ovmse.train(round_config(made / "run", str(data), tmp_path / out, **SMALL))
    assert same(team(tmp_path / "a" / "teams.safetensors"), team(tmp_path / "b" / "teams.safetensors"))


def test_a_round_on_play_is_judged_by_both(tmp_path, made):
    """A run that was played goes on from logs, too: scores of play stand beside what the logs say."""
    from support.episodes import small_run, write_two_step

    old, new = (write_two_step(tmp_path / name) for name in ("old", "again"))
    reward = Dataset.open(new).reward + np.float32(1.0)
    new = Dataset.write(
        tmp_path / "new", spec=Dataset.open(new).spec, **(Dataset.open(new).flat | {"reward": reward}), behaviour=""
    )
    ovmse.train(small_run(tmp_path / "run", data=old, method="offline", change=("offline_loss.alpha=0.5",)))
    config = round_config(tmp_path / "run", str(new.path), tmp_path / "round", loss="offline", **SMALL)
    assert config.method == "ovmse+offline" and config.change == ("offline_loss.alpha=0.5",)
    row = ovmse.train(config).rows[-1]
    assert row["return"] is not None and row["fqe"] is not None and row["phase"] == "round"


# Stopping


@pytest.mark.parametrize("phase", ["round", "fitting"])
def test_a_stopped_round_ends_as_one_that_was_not(phase, made, tmp_path):
    class Stop(StopIn):
        def evaluating(self, share):
            pass

    config = round_config(made / "run", str(made / "new"), tmp_path / "stopped", seed=1, **SMALL)
    with pytest.raises(Interrupted):
        ovmse.train(config, Stop(phase))
    assert not (config.out / "rounds.json").exists()
    assert main(["export", str(config.out), "--to", str(tmp_path / "team")]) == 2
    assert main(["train", "--resume", str(config.out)]) == 0
    whole = made / "run-round-1"
    for one in (config.out, whole):
        assert rounds_file.read(one) == rounds_file.read(whole)
        assert timeless(checked_rows(one / "metrics.jsonl")) == timeless(checked_rows(whole / "metrics.jsonl"))
    ended = [json.loads((path / "summary.json").read_text())["state_sha256"] for path in (config.out, whole)]
    assert ended[0] == ended[1]


# How it is shown, and what is refused


def test_one_page_has_all_rounds(made, tmp_path):
    assert main(["report", str(made / "run-round-2"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Rounds</h2>" in page and "new (5 of 16 held out)" in page and "newer (5 of 16 held out)" in page
    runs = [str(made / name) for name in ("run", "run-round-1", "run-round-2")]
    assert main(["compare", *runs, "--out", str(tmp_path / "all")]) == 0
    assert main(["report", *runs, "--out", str(tmp_path / "all.html")]) == 0
    words = ["--data", str(made / "newer"), "--updates", "4", "--hidden", "8", "--out", str(tmp_path / "chosen")]
    assert main(["select", *runs, *words]) == 0
    teams = json.loads((tmp_path / "chosen" / "selection.json").read_text())["teams"]
    assert sorted((one["team"], one["phase"]) for one in teams)[-2:] == [
        ("run/0@40", "offline"), ("run/1@40", "offline")
    ] and sum(one["phase"] == "round" for one in teams) == 2  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "jsrl+offline"}, "learns new networks online"),
        ({"method": "pex"}, "plays with two teams"),
        ({"method": "bc"}, "no online phase"),
        ({"method": "ovmse+iql"}, "learns no Q_tot"),
        ({"method": "ovmse+cfcql"}, "other networks"),
        ({"fits": 1}, "--fits must be 2 or more"),
        ({"seed": 7}, "has the seeds 0 to 1"),
        ({"margin": 2.0}, "--margin must lie between 0 and 1"),
        ({"data": "old"}, "has learned from already"),
        ({"teams": "safe"}, "no verdict of a guard"),
    ],
)
def test_rounds_that_cannot_be_are_refused(changes, message, made, tmp_path):
    data = made / changes.get("data", "new")
    given = {name: value for name, value in changes.items() if name != "data"}
    with pytest.raises(UserError, match=message):
        ovmse.train(round_config(made / "run", str(data), tmp_path / "round", **{**SMALL, **given}))
    assert not (tmp_path / "round").exists()


def test_logs_of_another_plant_are_refused(made, tmp_path):
    other = write_dataset(tmp_path / "other", SPEC, [random_episode(np.random.default_rng(0), 3)] * 4)
    with pytest.raises(UserError, match="not of the plant of .*run: expected n_agents: 2, got 3"):
        setup(round_config(made / "run", str(other.path), tmp_path / "round", **SMALL))


def test_an_ended_round_names_the_next_one(made):
    with pytest.raises(UserError, match="holds a batch round that has ended. The next one: ovmse improve"):
        ovmse.train(_again(made / "run-round-1"), resume=True)


def _again(path) -> Config:
    from ovmse.runs.saved_config import read_config

    return read_config(path)
