"""Whole runs on matrix games: what they write, equal seeds, stopping and going on, and what they learn."""

import json
import shutil
import signal
import textwrap
from dataclasses import replace

import jax
import numpy as np
import pytest
from support.episodes import play_plan, small_run, write_two_step
from support.stopping import StopIn, assert_same_rows

from ovmse import methods
from ovmse.core.errors import UserError
from ovmse.core.settings import describe
from ovmse.data.dataset import Dataset
from ovmse.learning import parallel, phases
from ovmse.runs import checkpoints
from ovmse.runs.saved_config import read_config
from ovmse.system import pytree_files
from ovmse.system.signals import Interrupted
from ovmse.training import memory
from ovmse.training.loop import PhaseLoop
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]


@pytest.fixture(scope="module")
def two_step_data(tmp_path_factory):
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step")


@pytest.fixture(scope="module")
def three(tmp_path_factory, two_step_data):
    """OVMSE with three seeds, undisturbed; its online experience is kept."""
    out = tmp_path_factory.mktemp("runs") / "three"
    return train(small_run(out, method="ovmse", data=two_step_data, keep_experience=True))


# What a run writes


def test_a_run_writes_a_row_per_evaluation_and_seed(three):
    rows = [json.loads(line) for line in (three.out / "metrics.jsonl").read_text().splitlines()]
    assert rows == three.rows
    expected = [("offline", 0, n) for n in (0, 20, 40)]
    expected += [("online", 0, 40), ("online", 32, 48), ("online", 64, 56)]
    assert [(r["phase"], r["env_steps"], r["updates"], r["seed"]) for r in rows] == [
        (*e, seed) for e in expected for seed in range(3)
    ]
    for row in rows:
        online, learned = row["phase"] == "online", row["updates"] not in (0, 40) or row["phase"] == "offline"
        assert (row["loss"] is not None) == (learned and row["updates"] > 0)
        assert (row["lambda"] is not None) == (row["epsilon"] is not None) == online
        assert (row["monitor_offline_value"] is not None) == online and row["monitor_q_tot"] is not None
        assert (row["monitor_drift"] is not None) == (row["monitor_agreement"] is not None) == online
        assert row["rolled_back"] is None
        assert row["return"] in (0.0, 1.0, 7.0, 8.0) and row["win_rate"] == float(row["return"] == 8.0)
        assert row["episode_length"] == 2.0 and row["episodes"] == row["env_steps"] // 2
    last = [r for r in rows if r["env_steps"] == 64]
    assert [r["lambda"] for r in last] == pytest.approx([0.1] * 3)
    assert [r["epsilon"] for r in last] == pytest.approx([0.02] * 3)


def test_the_memory_stands_still_while_the_value_moves(three):
    online = [r for r in three.rows if r["phase"] == "online"]
    for seed in range(3):
        mine = [r for r in online if r["seed"] == seed]
        assert len({r["monitor_offline_value"] for r in mine}) == 1
        assert mine[0]["monitor_offline_value"] == pytest.approx(mine[0]["monitor_q_tot"])  # at the handover
        assert mine[-1]["monitor_q_tot"] != mine[0]["monitor_q_tot"]


def test_before_and_after_the_handover_agree(three):
    found = json.loads((three.out / "handover.json").read_text())
    assert found == three.handover and found["episodes"] == 4
    assert [s["seed"] for s in found["seeds"]] == [0, 1, 2]
    for seed in found["seeds"]:
        assert seed["agree"] is True and seed["max_abs_return_difference"] == 0.0
        assert seed["return_before"] == seed["return_after"]
        ends = [r for r in three.rows if r["seed"] == seed["seed"] and r["updates"] == 40]
        assert [r["return"] for r in ends] == [seed["return_before"]] * 2  # the last offline, the first online row


def test_a_run_leaves_its_files(three):
    files = {p.name for p in three.out.iterdir()}
    assert files == {
        "config.json", "dataset.json", "handover.json", "metrics.jsonl", "offline.safetensors", "summary.json",
        "teams.safetensors", "versions.json", "experience", "checkpoints",
    }  # fmt: skip
    teams = pytree_files.restore(three.out / "teams.safetensors", three.teams)
    for a, b in zip(jax.tree.leaves(teams), jax.tree.leaves(three.teams), strict=True):
        assert a.shape[0] == 3
        np.testing.assert_array_equal(a, b)
    written = json.loads((three.out / "config.json").read_text())
    assert written["method"] == "ovmse" and written["seeds"] == 3
    assert written["method_value"] == json.loads(json.dumps(describe(methods.METHODS["ovmse"])))
    summary = json.loads((three.out / "summary.json").read_text())
    assert summary["wall_s"] > 0 and summary["peak_memory_bytes"] > 0


def test_a_directory_in_use_is_refused_before_anything_runs(three):
    before = (three.out / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="in use"):
        train(small_run(three.out, method="scratch"))
    with pytest.raises(UserError, match="its own settings, but method 'ovmse' there, 'scratch' here"):
        train(small_run(three.out, method="scratch"), resume=True)
    assert (three.out / "metrics.jsonl").read_bytes() == before


# Seeds


@pytest.mark.slow
def test_one_seed_alone_equals_the_same_seed_among_others(three, tmp_path, two_step_data):
    alone = train(small_run(tmp_path / "one", method="ovmse", data=two_step_data, seeds=1, seed=1))
    assert_same_rows(alone.rows, [r for r in three.rows if r["seed"] == 1], rel=1e-4)
    for a, b in zip(jax.tree.leaves(alone.teams), jax.tree.leaves(three.teams), strict=True):
        np.testing.assert_allclose(a[0], b[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_seeds_as_one_batch_are_the_same_runs(three, tmp_path, two_step_data, monkeypatch):
    """The way of an accelerator, here on a CPU: all seeds in one batch, a training batch in one group."""
    for module in (parallel, phases, memory):
        monkeypatch.setattr(module, "batched", lambda: True)
    monkeypatch.setattr(memory, "check_memory", lambda *_: dict.fromkeys(("program", "compiling"), 0))
    batch = train(small_run(tmp_path / "batch", method="ovmse", data=two_step_data))
    assert_same_rows(batch.rows, three.rows, rel=1e-3)


def test_seeds_differ(three):
    for leaf in jax.tree.leaves(three.teams):
        assert len(np.unique(leaf.reshape(3, -1), axis=0)) == 3
    assert len({r["loss"] for r in three.rows if r["updates"] == 56}) == 3


# Stopping and going on


@pytest.mark.slow
def test_a_run_stopped_in_both_phases_ends_like_an_undisturbed_one(three, tmp_path, two_step_data):
    wanted = small_run(tmp_path / "stopped", method="ovmse", data=two_step_data, keep_experience=True)
    for phase, resume in (("offline", False), ("online", True)):
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(Interrupted, match="--resume"):
            train(wanted, StopIn(phase), resume=resume)
        assert signal.getsignal(signal.SIGINT) is handler
        assert checkpoints.newest(wanted.out, pytest.fail).about["phase"] == phase
    ended = train(wanted, resume=True)
    assert_same_rows(ended.rows, three.rows, rel=0.0)
    assert [json.loads(x) for x in (wanted.out / "metrics.jsonl").read_text().splitlines()] == ended.rows
    for a, b in zip(jax.tree.leaves(ended.teams), jax.tree.leaves(three.teams), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in (wanted.out / "checkpoints").iterdir()] == [
        json.loads((wanted.out / "summary.json").read_text())["checkpoint"]
    ]
    ends = [json.loads((run.out / "summary.json").read_text())["state_sha256"] for run in (ended, three)]
    assert ends[0] == ends[1]
    assert ended.handover == three.handover
    for seed in range(3):
        kept, undisturbed = (Dataset.open(run.out / "experience" / f"seed-{seed}") for run in (ended, three))
        assert kept.metadata.checksum == undisturbed.metadata.checksum


def test_a_run_that_ended_goes_on_for_longer_as_if_it_had_been_so_long_at_first(three, tmp_path, two_step_data):
    out = tmp_path / "copy"
    shutil.copytree(three.out, out)
    config = read_config(out)
    for change, reason in (
        ({}, "has ended"),
        ({"online_env_steps": 32}, "64 there, 32 here: it can be more"),
        ({"online_env_steps": 96, "seeds": 2}, "seeds 3 there, 2 here"),
        ({"online_env_steps": 96, "offline_updates": 80}, "offline phase is over"),
    ):
        with pytest.raises(UserError, match=reason):
            train(replace(config, **change), resume=True)
    assert json.loads((out / "summary.json").read_text()) == json.loads((three.out / "summary.json").read_text())
    longer = replace(config, online_env_steps=128)
    with pytest.raises(Interrupted):
        train(longer, StopIn("online"), resume=True)
    assert checkpoints.is_unfinished(out) and read_config(out).schedule_env_steps == 64
    ended = train(read_config(out), resume=True)
    at_first = small_run(tmp_path / "long", method="ovmse", data=two_step_data, keep_experience=True)
    whole = train(replace(at_first, online_env_steps=128, schedule_env_steps=64))
    assert_same_rows(ended.rows, whole.rows, rel=0.0)
    assert [row["epsilon"] for row in ended.rows[-3:]] == pytest.approx([0.02] * 3)
    ends = [json.loads((run / "summary.json").read_text())["state_sha256"] for run in (out, whole.out)]
    assert ends[0] == ends[1]
    for seed in range(3):
        kept, undisturbed = (Dataset.open(run / "experience" / f"seed-{seed}") for run in (out, whole.out))
        assert kept.metadata.checksum == undisturbed.metadata.checksum
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(UserError, match="kept no checkpoint"):
        train(replace(config, online_env_steps=256), resume=True)


# The experience that is kept


@pytest.mark.slow
def test_the_experience_is_what_was_played_and_can_be_learned_from(three, tmp_path):
    parts = [Dataset.open(three.out / "experience" / f"seed-{seed}") for seed in range(3)]
    assert {path.name for path in (three.out / "experience").iterdir()} == {"seed-0", "seed-1", "seed-2"}
    for seed, dataset in enumerate(parts):
        last = [row for row in three.rows if row["seed"] == seed][-1]
        assert dataset.metadata.steps == last["env_steps"] == 64
        assert len(dataset.length) == last["episodes"] == 32
        assert dataset.metadata.seed == seed and "'ovmse', seed" in dataset.metadata.behaviour
        for e in range(32):
            found, won = dataset.episode(e), bool(dataset.won[e])
            replayed, replayed_won = play_plan("two_step", found.action.tolist())
            assert won == replayed_won
            for name in ("obs", "state", "avail", "reward", "terminal"):
                np.testing.assert_array_equal(getattr(found, name), getattr(replayed, name))
    assert len({dataset.metadata.checksum for dataset in parts}) == 3
    again = small_run(tmp_path / "next", method="ovmse", data=str(parts[0].path), seeds=1, offline_updates=20)
    assert train(again).rows[-1]["phase"] == "online"


# Methods of one's own, and losses that are no numbers


@pytest.fixture
def own_methods(tmp_path, monkeypatch):
    source = """
        import jax.numpy as jnp
        from ovmse.methods.method import Method


        def no_number(inputs):
            return inputs.td_target * jnp.nan


        BROKEN = Method(offline_loss=no_number)
        NOT_ONE = 3
    """
    (tmp_path / "own_methods_of_a_test.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_methods_of_a_test"


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(own_methods, tmp_path, two_step_data):
    wanted = small_run(tmp_path / "run", method=f"{own_methods}:BROKEN", data=two_step_data, seeds=1, seed=5)
    says = "the loss is no longer a finite number .seed 5, offline phase, after 0.*learning-rate"
    with pytest.raises(UserError, match=says):
        train(wanted)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1  # what was measured stays


def test_methods_that_are_not_there_are_refused(own_methods):
    for name, says in (
        ("ovmes", "Did you mean 'ovm"),
        ("no_such_module:METHOD", "no module 'no_such_module'"),
        (f"{own_methods}:METHOD", "no attribute 'METHOD'"),
        (f"{own_methods}:NOT_ONE", "expected an ovmse.Method; got int"),
    ):
        with pytest.raises(UserError, match=says):
            methods.find(name)


def test_data_is_asked_for_and_must_fit(tmp_path, two_step_data):
    with pytest.raises(UserError, match="give --data"):
        train(small_run(tmp_path / "run", method="ovmse"))
    with pytest.raises(UserError, match="other sizes"):
        train(small_run(tmp_path / "run", method="ovmse", data=two_step_data, env="matrix:climbing"))
    assert not (tmp_path / "run").exists()


def test_there_must_be_experience_to_keep(tmp_path, two_step_data):
    with pytest.raises(UserError, match="nothing to keep"):
        train(small_run(tmp_path / "run", method="offline", data=two_step_data, keep_experience=True))
    assert not (tmp_path / "run").exists()


def test_the_next_mark_is_never_passed():
    phase = PhaseLoop(phases.Phase.ONLINE, 50, 20, first=1, done=lambda states: 0, advance=lambda states, *_: states)
    assert [phase.next_mark(n) for n in (0, 19, 20, 39, 40, 49)] == [20, 20, 40, 40, 50, 50]


def test_rows_average_over_the_updates_since_the_last_row(three):
    """Sums begin at zero, and a row is their mean."""
    assert phases.zero_sums().updates == 0
    for row in three.rows:
        if row["loss"] is not None:
            assert row["loss"] == pytest.approx(row["td_error"] + row["cql"], rel=1e-3, abs=1e-4)
            assert row["grad_norm"] > 0
            online = row["phase"] == "online"
            assert (row["cql"] == pytest.approx(0.0, abs=1e-5)) == online
            assert (row["memory_active_share"] is not None) == online
            assert not online or 0.0 <= row["memory_active_share"] <= 1.0
