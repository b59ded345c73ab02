"""Runs without an environment: what is held out, what evaluations say, and how every command takes such runs."""

import dataclasses
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import fleet
from support.episodes import SPEC, log_run, random_episode, small_run, write_dataset, write_plant, write_two_step
from support.shared import once
from support.stopping import timeless

import ovmse
from ovmse import envs
from ovmse.analysis.agreement import discounted_returns
from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.split import hold_out, take
from ovmse.methods import METHODS
from ovmse.runs.metrics_file import checked_rows
from ovmse.system.signals import Interrupted
from ovmse.training.choose_env import with_env
from ovmse.training.display import Display
from ovmse.training.setup import setup

pytestmark = pytest.mark.slow

SMALL = [
    "--hidden", "8", "--embedding", "4", "--hyper", "6", "--batch-episodes", "2", "--offline-updates", "6",
    "--evaluate-every-updates", "3", "--fqe-updates", "4", "--seeds", "2",
]  # fmt: skip


def fleet_runs(folder):
    """A log of a fleet, imported, and two runs that learned from it, all by the command line."""
    fleet.write(folder / "logs")
    assert main(["import", str(folder / "logs" / "clean.csv"), "--out", str(folder / "fleet")]) == 0
    for method in ("ovmse", "cfcql"):
        words = ["--data", str(folder / "fleet"), "--method", method, "--out", str(folder / method)]
        assert main(["train", *words, *SMALL]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return once(tmp_path_factory, "without-play", fleet_runs)


# What is held out


def test_held_out_episodes_are_a_share_drawn_by_the_seed():
    kept, held_out = hold_out(20, 0.25, seed=3)
    assert len(held_out) == 5 and sorted([*kept, *held_out]) == list(range(20))
    assert held_out.tolist() == hold_out(20, 0.25, seed=3).held_out.tolist() != hold_out(20, 0.25, seed=4)[1].tolist()
    assert len(hold_out(10, 0.01, seed=0).held_out) == 2  # one alone has no spread
    with pytest.raises(UserError, match="none left to learn from"):
        hold_out(2, 0.5, seed=0)


def test_episodes_are_taken_whole(tmp_path):
    rng = np.random.default_rng(0)
    dataset = write_dataset(tmp_path / "log", SPEC, [random_episode(rng, n) for n in (2, 6, 1, 4)])
    taken = Dataset.write(tmp_path / "taken", spec=SPEC, **take(dataset.flat, np.array([3, 1])), behaviour="")
    for i, number in enumerate((3, 1)):
        for ours, theirs in zip(taken.episode(i), dataset.episode(number), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_is_held_out_teaches_nothing(tmp_path):
    """Other rewards in the held-out episodes: the same teams, other evaluations."""
    dataset = write_plant(tmp_path / "a")
    held_out = hold_out(16, 0.25, seed=0).held_out
    reward = dataset.reward.copy().reshape(16, 2)
    reward[held_out] += 5.0
    write_plant(tmp_path / "b", reward=reward.ravel())
    found = {name: ovmse.train(log_run(tmp_path / f"run-{name}", tmp_path / name, held_out=0.25)) for name in "ab"}
    teams = [load_file(tmp_path / f"run-{name}" / "teams.safetensors") for name in "ab"]
    assert all(np.array_equal(x, teams[1][name]) for name, x in teams[0].items())
    a, b = (found[name].rows[-1] for name in "ab")
    assert a["loss"] == b["loss"] and a["agreement"] == b["agreement"]
    assert a["held_out_loss"] != b["held_out_loss"] and a["fqe"] != b["fqe"]
    behaviour = discounted_returns(take(dataset.flat, held_out), 0.99).mean()
    assert a["behaviour_return"] == pytest.approx(behaviour)
    assert b["behaviour_return"] == pytest.approx(behaviour + 5 * 1.99)


# What evaluations say


def test_every_evaluation_is_of_the_log(runs):
    rows = checked_rows(runs / "ovmse" / "metrics.jsonl")
    assert [(row["updates"], row["seed"]) for row in rows] == [(n, seed) for n in (0, 3, 6) for seed in (0, 1)]
    for row in rows:
        assert row["return"] is None and row["win_rate"] is None and row["episode_length"] is None
        assert row["held_out_loss"] > 0 and 0 <= row["coverage"] <= row["agreement"] <= 1
        assert row["fqe_low"] <= row["fqe"] <= row["fqe_high"]
    described = json.loads((runs / "ovmse" / "config.json").read_text())
    assert (described["env"], described["held_out"], described["change"]) == ("none", 0.2, ["online_target=None"])
    assert json.loads((runs / "ovmse" / "dataset.json").read_text())["held_out_episodes"] == 2


def test_losses_without_td_errors_have_none(tmp_path):
    rows = ovmse.train(
        log_run(tmp_path / "run", write_plant(tmp_path / "log").path, method="bc", offline_updates=20)
    ).rows
    assert rows[-1]["held_out_td_error"] is None and rows[-1]["held_out_loss"] < rows[0]["held_out_loss"]


class StopEvaluating(Display):
    """Presses Ctrl-C in the middle of the second evaluation."""

    looks = 0

    def evaluating(self, share):
        self.looks += share == 1.0
        if self.looks == 1 and share < 1.0 and self.done:
            self.looks += 10
            signal.raise_signal(signal.SIGINT)


def test_a_run_stopped_while_it_evaluates_ends_as_one_that_was_not(tmp_path):
    data = write_plant(tmp_path / "log").path
    config = log_run(tmp_path / "stopped", data, fqe_updates=60)
    expected = ovmse.train(dataclasses.replace(config, out=tmp_path / "whole"))
    with pytest.raises(Interrupted):
        ovmse.train(config, StopEvaluating())
    assert checked_rows(tmp_path / "stopped" / "metrics.jsonl")[-1]["updates"] == 0
    found = ovmse.train(config)
    assert timeless(found.rows) == timeless(expected.rows)
    ended = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "stopped")]
    assert ended[0]["state_sha256"] == ended[1]["state_sha256"]


def test_held_out_episodes_beside_play(tmp_path):
    data = write_two_step(tmp_path / "log")
    rows = ovmse.train(small_run(tmp_path / "run", data=data, held_out=0.25, fqe_updates=10, seeds=1)).rows
    assert rows[-1]["phase"] == "online" and rows[-1]["return"] is not None
    assert all(row["fqe"] is not None and row["agreement"] is not None for row in rows)
    assert all((row["held_out_loss"] is None) == (row["phase"] == "online") for row in rows)


# Where nothing can be played


def test_the_environment_is_the_datasets_own_where_it_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = [random_episode(np.random.default_rng(0), 3)]
    (tmp_path / "own_env.py").write_text("raise RuntimeError('imported')")
    own = write_dataset(tmp_path / "own", SPEC._replace(name="own_env:Team"), log)
    penalty = envs.make("matrix:penalty", penalty=-5.0).spec
    game = Dataset.open(write_two_step(tmp_path / "two"))
    strict = Dataset.write(tmp_path / "strict", spec=penalty, behaviour="", **_one_stage(penalty))
    assert with_env(Config()).env == "smax:3m"
    assert with_env(Config(data=str(game.path))).env == "matrix:two_step"
    assert with_env(Config(data=str(own.path))).env == "none"  # a dataset names no code to be run
    found = with_env(Config(data=str(strict.path)))
    assert (found.env, found.env_settings) == ("matrix:penalty", ("penalty=-5.0",))
    assert with_env(Config(env="none", data=str(game.path))).env == "none"


def _one_stage(spec):
    """One episode of a game with one stage, as arrays."""
    shape = (spec.n_agents, spec.n_actions)
    return {
        "obs": np.zeros((2, spec.n_agents, spec.obs_size)), "state": np.zeros((2, spec.state_size)),
        "avail": np.ones((2, *shape), bool), "action": np.zeros((1, spec.n_agents), int), "reward": np.ones(1),
        "terminal": np.ones(1, bool), "length": np.ones(1, int), "won": np.zeros(1, bool),
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_with_an_offline_phase_learns_from_a_log_alone(method, runs, tmp_path):
    config = log_run(tmp_path / "run", runs / "fleet", method=method)
    if METHODS[method].offline_loss is None:
        with pytest.raises(UserError, match="has no offline phase"):
            setup(config)
        return
    task = setup(config)
    assert task.env is None and task.method.online_target is None and task.spec.name == "fleet"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"online_env_steps": 100}, "--online-env-steps would have no effect"),
        ({"evaluate_episodes": 5, "guard_margin": 0.1}, "--evaluate-episodes, --guard-margin would have no effect"),
        ({"keep_experience": True}, "--keep-experience would have no effect"),
        ({"held_out": 0.99}, "none left to learn from"),
        ({"data": None}, "give --data"),
    ],
)
def test_what_would_have_no_effect_is_refused(changes, message, runs, tmp_path):
    with pytest.raises(UserError, match=message):
        ovmse.train(dataclasses.replace(log_run(tmp_path / "run", runs / "fleet", env="none"), **changes))
    assert not (tmp_path / "run").exists()


def test_a_taken_over_phase_is_as_long_as_it_was(runs, tmp_path):
    data = write_two_step(tmp_path / "log")
    first = small_run(tmp_path / "first", data=data, method="offline", seeds=1)
    ovmse.train(first)
    on = small_run(tmp_path / "on", data=data, method="finetune", seeds=1, pretrained=first.out)
    setup(on)
    with pytest.raises(UserError, match="of 40 updates: --offline-updates 500 would have no effect"):
        setup(dataclasses.replace(on, offline_updates=500))
    with pytest.raises(UserError, match="nothing would be left to train"):
        setup(log_run(tmp_path / "off", data, env="none", pretrained=first.out))


# How other commands take such runs


def test_reports_and_comparisons_invent_no_returns(runs, tmp_path, capsys):
    assert main(["report", str(runs / "ovmse"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Nothing was played" in page and "What the log says" in page and "ovmse on fleet" in page
    assert main(["compare", str(runs / "ovmse"), str(runs / "cfcql"), "--out", str(tmp_path / "both")]) == 0
    shown = capsys.readouterr().out
    assert "Judged by held-out episodes of a log" in shown and "behaviour" in shown
    header = (tmp_path / "both" / "compare.csv").read_text().splitlines()[0].split(",")
    assert {"final", "agreement", "coverage", "behaviour_return"} <= set(header) and "regret" not in header


def test_runs_of_play_and_of_logs_have_no_score_in_common(runs, tmp_path):
    played = ovmse.train(small_run(tmp_path / "run", data=write_two_step(tmp_path / "log"), seeds=1)).out
    assert main(["compare", str(runs / "ovmse"), str(played), "--out", str(tmp_path / "both")]) == 2


def test_playing_is_refused_and_says_what_else_there_is(runs, capsys):
    assert main(["evaluate", str(runs / "ovmse")]) == 2
    assert "no environment to play in" in capsys.readouterr().err


def test_a_team_is_chosen_and_leaves(runs, tmp_path, capsys):
    words = [str(runs / "ovmse"), str(runs / "cfcql"), "--data", str(runs / "fleet"), "--hidden", "8", "--updates", "4"]
    assert main(["select", *words, "--out", str(tmp_path / "chosen")]) == 0
    record = json.loads((tmp_path / "chosen" / "selection.json").read_text())
    assert len(record["teams"]) == 4 and record["next"].startswith("ovmse export ")
    assert main(record["next"].split()[1:]) == 0
    team = tmp_path / "chosen" / "team"
    checked = subprocess.run([sys.executable, team / "check.py"], capture_output=True, text=True, check=True)
    assert "fine" in checked.stdout
    chosen, run = (
        json.loads((path / "dataset.json").read_text()) for path in (team.with_name("chosen"), runs / "ovmse")
    )
    assert chosen == run  # it has the names of agents and actions


def test_such_a_run_is_trained_for_longer(tmp_path):
    data = write_plant(tmp_path / "log").path
    config = log_run(tmp_path / "grown", data, offline_updates=20)
    whole = ovmse.train(dataclasses.replace(config, out=tmp_path / "whole", offline_updates=40))
    ovmse.train(config)
    words = ["--resume", str(config.out), "--offline-updates", "40"]
    assert main(["train", *words]) == 0
    assert timeless(checked_rows(config.out / "metrics.jsonl")) == timeless(whole.rows)
