"""Runs whose episodes worker processes play: the same with any number of workers, stopped or not."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from support.episodes import SMALL
from support.junction import Junction
from support.ray_stand_in import ray_or_stand_in, stand_in
from support.stopping import StopIn, assert_same_rows

import ovmse
from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.envs import wire
from ovmse.envs.remote import connect_for
from ovmse.learning.workers import Workers
from ovmse.methods import METHODS
from ovmse.runs import checkpoints
from ovmse.runs.saved_config import read_config
from ovmse.system.signals import Interrupted
from ovmse.training import played_ahead
from ovmse.training.display import Display
from ovmse.training.evaluate_run import evaluate_run
from ovmse.training.played_ahead import PlayedAhead
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]

CONFIG = Config(
    env="support.junction:Junction",
    method="scratch",
    workers=2,
    seeds=2,
    online_env_steps=160,
    evaluate_every_env_steps=80,
    evaluate_episodes=12,
    episodes_per_collect=4,
    updates_per_collect=2,
    batch_episodes=4,
    learner=SMALL,
    keep_experience=True,
)


@pytest.fixture(autouse=True, scope="module")
def support_is_found():
    with pytest.MonkeyPatch.context() as patch:
        there = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(there))
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two seeds with two workers, undisturbed."""
    return train(replace(CONFIG, out=tmp_path_factory.mktemp("runs") / "two"))


def checksum(run):
    return json.loads((run.out / "summary.json").read_text())["state_sha256"]


def test_a_run_with_workers_learns_at_its_ratio_and_says_so(two):
    last = [row for row in two.rows if row["env_steps"] >= 160]
    assert [(row["env_steps"], row["updates"], row["episodes"]) for row in last] == [(160, 20, 40)] * 2
    assert all(0 <= row["measure_waiting_time"] <= 8 for row in two.rows)
    summary = json.loads((two.out / "summary.json").read_text())
    assert summary["online_updates_per_env_step"] == pytest.approx(2 / 16)
    assert summary["worker_restarts"] == 0 and summary["waiting_for_play_s"] >= 0


def test_no_episode_is_learned_from_twice(two):
    for seed in range(2):
        log = Dataset.open(two.out / "experience" / f"seed-{seed}").flat
        assert len(log["length"]) == 40
        first = np.cumsum(log["length"] + 1) - log["length"] - 1
        assert len(np.unique(log["obs"][first][:, :, 2], axis=0)) == 40  # what is drawn when an episode begins


def test_a_run_stopped_and_gone_on_with_by_other_workers_ends_like_an_undisturbed_one(two, tmp_path):
    wanted = replace(CONFIG, out=tmp_path / "stopped", workers=3)
    with pytest.raises(Interrupted, match="--resume .*stopped --trust-code"):
        train(wanted, StopIn("online"))
    saved = checkpoints.newest(wanted.out, pytest.fail)
    assert len(list(saved.path.glob("ahead-*.bin"))) == 2 * 3  # for each seed the rounds under way: 2 ahead, and one
    ended = train(replace(wanted, workers=4), resume=True)
    assert checksum(ended) == checksum(two)
    assert_same_rows(ended.rows, two.rows, rel=0.0)
    for a, b in zip(jax.tree.leaves(ended.teams), jax.tree.leaves(two.teams), strict=True):
        np.testing.assert_array_equal(a, b)
    for seed in range(2):
        kept, undisturbed = (Dataset.open(run.out / "experience" / f"seed-{seed}") for run in (ended, two))
        assert kept.metadata.checksum == undisturbed.metadata.checksum
    with pytest.raises(UserError, match="workers 2 there, 1 here"):
        train(replace(wanted, workers=1, online_env_steps=320), resume=True)


@pytest.mark.filterwarnings("ignore")  # of Ray's own
@pytest.mark.parametrize("real", [False, True])
def test_a_run_whose_workers_ray_has_ends_like_one_with_local_workers(two, tmp_path, monkeypatch, real):
    ray_or_stand_in(monkeypatch, real)
    ended = train(replace(CONFIG, out=tmp_path / "ray", ray_address="local"))
    sys.modules["ray"].shutdown()
    assert checksum(ended) == checksum(two)
    restarts = json.loads((ended.out / "summary.json").read_text())["worker_restarts"]
    assert restarts == 0 if real else restarts >= 1  # some of the stand-in's actors are lost: the same is played again


def test_ray_needs_workers_and_cores_for_them(monkeypatch, capsys):
    assert main(["train", "--env", CONFIG.env, "--method", "scratch", "--ray", "--out", "nowhere"]) == 2
    assert "--ray is for workers" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    with pytest.raises(UserError, match="--workers 3: the Ray at 'auto' has 2 cores, and each worker takes one"):
        connect_for("auto", 3)


def test_evaluation_is_the_same_with_and_without_workers_and_by_ray(two, monkeypatch):
    config = read_config(two.out, trusted=True)
    by_workers, alone = (evaluate_run(config, two.out, 10, 3, "last", Display(), workers=n) for n in (2, 1))
    assert_same_rows(by_workers, alone, rel=1e-5)
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    assert main(["evaluate", str(two.out), "--episodes", "10", "--seed", "3", "--ray", "--trust-code"]) == 0
    assert json.loads((two.out / "evaluation.json").read_text()) == [row | {"teams": "deployed"} for row in by_workers]
    found = ovmse.Run(two.out).evaluate(10, 3, trust_code=True, workers=2, ray_address="local")
    assert found["return"].tolist() == [row["return"] for row in by_workers]


def test_collect_records_the_same_by_any_number_of_workers_and_by_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", stand_in())
    words = ["collect", "--env", "support.junction:Junction", "--quality", "random", "--episodes", "10"]
    words += ["--episodes-per-collect", "4"]
    for name, workers in (("two", ["2"]), ("three", ["3"]), ("ray", ["2", "--ray"])):
        assert main([*words, "--workers", *workers, "--out", str(tmp_path / name)]) == 0
    two, three, ray = (Dataset.open(tmp_path / name) for name in ("two", "three", "ray"))
    assert len(two.length) == 10
    assert two.metadata.checksum == three.metadata.checksum == ray.metadata.checksum


def test_a_rule_plays_the_same_by_any_number_of_workers(tmp_path, monkeypatch, capsys):
    (tmp_path / "junction_rules.py").write_text("""
def first(obs, avail):
    return avail.argmax(-1)

def wrong(obs, avail):
    return [0]
""")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["collect", "--env", "support.junction:Junction", "--rule", "junction_rules:first", "--episodes", "9"]
    words += ["--epsilon", "0.5"]
    for workers in ("1", "3"):
        assert main([*words, "--workers", workers, "--out", str(tmp_path / workers)]) == 0
    one, three = (Dataset.open(tmp_path / name) for name in ("1", "3"))
    assert len(one.length) == 9 and one.metadata.checksum == three.metadata.checksum
    assert len(np.unique(one.flat["obs"][one.flat["length"].cumsum() - 1], axis=0)) > 1
    capsys.readouterr()
    for told, more in (
        ("plays on this machine: leave --ray out", ["--ray"]),
        ("is for environments on the host; matrix:climbing is in JAX", ["--env", "matrix:climbing", "--workers", "2"]),
        ("step 0: expected", ["--rule", "junction_rules:wrong", "--workers", "2"]),
    ):
        assert main([*words, *more, "--out", str(tmp_path / "none")]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "none").exists()


def test_rounds_under_way_that_are_damaged_are_named(tmp_path):
    ahead = PlayedAhead(Workers(CONFIG, Junction().spec, METHODS["scratch"], print), 2, 1, 1)
    (tmp_path / "ahead-0-000.bin").write_bytes(b"nothing")
    with pytest.raises(UserError, match="ahead-0-000.bin is damaged"):
        ahead.restore(tmp_path, 0)
    (tmp_path / "ahead-0-000.bin").write_bytes(wire.bundle({"rule": "greedy"}, {}))
    with pytest.raises(UserError, match="ahead-0-000.bin: .*rule"):
        ahead.restore(tmp_path, 0)


def test_what_workers_mean_is_said():
    assert not played_ahead.in_words(replace(CONFIG, workers=1))
    [said] = played_ahead.in_words(CONFIG)
    assert "24 episodes at a time" in said and "4 updates old (2 rounds)" in said
    _, warning = played_ahead.in_words(replace(CONFIG, workers=20))
    assert "--rounds-ahead 3 keeps all of them busy" in warning
