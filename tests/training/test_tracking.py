"""Trackers: every row once, in one run for each seed, also when a run goes on; and one that fails disturbs nothing."""

import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from support import tracker_clients
from support.places import ROOT
from support.synthetic_runs import line

from ovmse.core.errors import UserError
from ovmse.training import trackers
from ovmse.training.trackers import NEEDS, SINKS, check_trackers, logged
from ovmse.training.tracking import Tracker

CONFIG = {"method": "ovmse", "learner": {"hidden": 8}}
NAMES = list(SINKS)


@pytest.fixture
def noted(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")  # so that what is set here is gone after the test
        monkeypatch.delenv(name)
    return tracker_clients.install(monkeypatch)


def rows(*evaluations):
    """Two seeds' rows of these online evaluations."""
    return [line("online", seed, 100 * k, 10 + k, 0.5 + seed / 4) for k in evaluations for seed in (0, 3)]


def follow(name, out, *told, ended=True, **more):
    """What a tracker says while it is told of rows, and closed."""
    said = []
    tracker = Tracker(name, out, CONFIG, said.append, **more)
    for every in told:
        tracker.tell(every)
    tracker.close(ended)
    return said


def sent(noted):
    """The steps at which each run's win rates were sent."""
    return [[step for step, values in told if "online/win_rate" in values] for told in noted.runs.values()]


def test_a_row_becomes_the_numbers_of_its_phase():
    row = line("online", 3, 200, 12, 0.5) | {"loss": None, "rolled_back": True}
    values = {"online/env_steps": 200, "online/updates": 12, "online/win_rate": 0.5, "online/return": 10}
    assert logged(row, 4) == (4, 200, values | {"online/rolled_back": 1.0})
    assert logged(line("offline", 0, 0, 12, 0.5), 1).step == 12


@pytest.mark.parametrize("name", NAMES)
def test_each_row_is_sent_once_to_its_seeds_run(noted, tmp_path, name):
    assert follow(name, tmp_path, rows(0), rows(0, 1), rows(0, 1, 2)) == []
    steps = [0, 1, 2] if name == "wandb" else [0, 100, 200]  # there the axis is chosen by `define_metric`
    assert sent(noted) == [steps, steps]
    assert [told[-1][1]["online/win_rate"] for told in map(whole, noted.runs.values())] == [0.5, 1.25]
    config = noted.config if isinstance(noted.config, dict) else json.loads(noted.config.strip("`json\n"))
    assert config["learner.hidden"] in (8, "8")
    assert len(noted.ended) == 2


def whole(told):
    """The last step and all values that were sent with it, however they were sent."""
    last = told[-1][0]
    return [(last, {k: v for step, values in told for k, v in values.items() if step == last})]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_goes_on_goes_on_there_and_its_rows_do_not_come_twice(noted, tmp_path, name):
    follow(name, tmp_path, rows(0, 1, 2), ended=False)
    first = list(noted.runs)
    follow(name, tmp_path, rows(0, 1), rows(0, 1, 2), rows(0, 1, 2, 3))  # from a checkpoint before the last evaluation
    assert list(noted.runs) == first
    steps = [0, 1, 2, 3] if name == "wandb" else [0, 100, 200, 300]
    assert sent(noted) == [steps, steps]


def test_a_tracker_that_comes_later_is_sent_what_was_before(noted, tmp_path):
    follow("trackio", tmp_path, rows(0, 1, 2, 3))
    assert sent(noted) == [[0, 100, 200, 300]] * 2


def test_wandb_is_offline_and_calls_nobody_unless_its_user_says_so(noted, tmp_path, monkeypatch):
    follow("wandb", tmp_path, rows(0))
    assert {run["mode"] for run in noted.opened} == {"offline"}
    assert trackers.os.environ["WANDB_ERROR_REPORTING"] == "false"
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    follow("wandb", tmp_path, rows(0, 1))
    assert (noted.opened[-1]["mode"], noted.opened[-1]["project"]) == ("online", "mine")
    assert noted.opened[-1]["group"] == tmp_path.name and noted.opened[-1]["name"] == f"{tmp_path.name}-seed-3"


def test_how_a_run_ended_is_told(noted, tmp_path):
    follow("mlflow", tmp_path, rows(0), ended=False)
    follow("mlflow", tmp_path, rows(0, 1))
    assert [status for _, status in noted.ended] == ["KILLED"] * 2 + ["FINISHED"] * 2
    assert noted.opened[-1][1] == "RUNNING"


def test_a_tracker_that_fails_warns_once_and_is_caught_up_with_later(noted, tmp_path, monkeypatch):
    class Full:
        def __init__(self, about):
            self.run_id, self.left = about.id(), 2

        def log(self, row):
            self.left -= 1
            if self.left < 0:
                raise OSError(28, "No space left on device")

        def close(self, ended):
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(SINKS, "trackio", Full)
    [said] = follow("trackio", tmp_path, rows(0), rows(0, 1), rows(0, 1, 2), rows(0, 1, 2, 3))
    assert "--log trackio has stopped; the run goes on without it" in said and "No space left" in said
    monkeypatch.undo()
    noted = tracker_clients.install(monkeypatch)
    assert follow("trackio", tmp_path, rows(0, 1, 2, 3)) == []
    assert sent(noted) == [[200, 300]] * 2


def test_a_tracker_that_hangs_is_not_waited_for(noted, tmp_path, monkeypatch):
    hang = threading.Event()

    class Hangs:
        def __init__(self, about):
            hang.wait()
            raise ConnectionError

    monkeypatch.setitem(SINKS, "wandb", Hangs)
    began = time.monotonic()
    [said] = follow("wandb", tmp_path, *[rows(*range(k)) for k in range(1, 50)], closing_seconds=0.1)
    assert "still busy" in said and time.monotonic() - began < 5
    hang.set()


def test_a_run_goes_on_without_a_client_that_is_gone(noted, tmp_path, monkeypatch):
    follow("trackio", tmp_path, rows(0), ended=False)
    monkeypatch.setitem(sys.modules, "trackio", None)
    [said] = follow("trackio", tmp_path, rows(0, 1))
    assert "the run goes on without it" in said and "trackio" in said


def test_a_client_that_is_missing_is_said_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    for name in NAMES:
        with pytest.raises(UserError, match=rf'--log {name} needs .*: pip install "ovmse\[{name}\]"'):
            check_trackers((name,))


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_ins_take_what_the_real_clients_take(monkeypatch, name):
    real = pytest.importorskip(NEEDS[name], reason="only where the client is installed")
    real_module, client = importlib.import_module(NEEDS[name]), "MlflowClient"
    tracker_clients.install(monkeypatch)
    fake_module = importlib.import_module(NEEDS[name])
    assert real is real_module is not fake_module
    what = {"tensorboard": ["SummaryWriter"], "mlflow": [client], "wandb": ["setup", "init"], "trackio": ["init"]}[name]
    for part in what:
        for fake, there in pairs(getattr(fake_module, part), getattr(real_module, part)):
            assert set(inspect.signature(fake).parameters) <= set(inspect.signature(there).parameters)


def pairs(fake, real):
    """A function, or each method of a class, beside the real one."""
    if not inspect.isclass(fake):
        return [(fake, real)]
    return [(x, getattr(real, name)) for name, x in vars(fake).items() if inspect.isfunction(x)]


WITHOUT_A_NETWORK = """
import sys
from pathlib import Path

def refuse(event, about):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(about[1], tuple)):
        raise SystemExit(f"{event} {about[1:]}")

sys.addaudithook(refuse)
from training.test_tracking import follow, rows
name, out = sys.argv[1:]
assert follow(name, Path(out), rows(0), rows(0, 1), ended=False, closing_seconds=120.0) == []
assert follow(name, Path(out), rows(0, 1, 2), closing_seconds=120.0) == []
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_real_clients_without_a_network(tmp_path, name):
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip("only where the client is installed")
    own = {"TRACKIO_DIR": str(tmp_path / "trackio"), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    paths = [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | own
    subprocess.run(
        [sys.executable, "-c", WITHOUT_A_NETWORK, name, str(tmp_path)],
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)}, cwd=tmp_path, check=True,
    )  # fmt: skip
    files = {"tensorboard": "tensorboard/seed-3/events.*", "wandb": "wandb/offline-run-*/run-*.wandb"}
    files |= {"mlflow": "mlflow.db", "trackio": "trackio/ovmse.db"}
    assert list(tmp_path.glob(files[name]))
    assert json.loads((tmp_path / "trackers" / f"{name}.json").read_text())["rows"] == 6
