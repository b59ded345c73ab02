"""Measures of an environment's own in a run: in its metrics, its table and page, and episode by episode."""

import csv
import json

import numpy as np
import pytest
from support.junction import Junction
from support.shared import once

from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.methods import METHODS
from ovmse.runs.metrics_file import load_run
from ovmse.training import evaluation_cost

pytestmark = pytest.mark.slow

SMALL = ["--hidden", "8", "--embedding", "4", "--hyper", "8", "--batch-episodes", "4", "--evaluate-episodes", "12"]


def a_run(folder):
    words = ["--env", "support.junction:Junction", "--method", "scratch", "--online-env-steps", "64"]
    assert main(["train", *words, *SMALL, "--evaluate-every-env-steps", "32", "--out", str(folder / "run")]) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return once(tmp_path_factory, "junction", a_run) / "run"


def test_each_measure_is_a_column_of_means(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:  # an agent that does not wait goes: where neither ever waits, both collide in every step
        assert 0 <= row["measure_waiting_time"] <= 8 and 0 <= row["measure_collisions"] <= 4
    record = load_run(run)
    assert record.measures == ["measure_collisions", "measure_waiting_time"]
    told = record.online[0].columns["measure_waiting_time"]
    np.testing.assert_array_equal(told, [row["measure_waiting_time"] for row in rows])


def test_the_summary_tells_play_and_acting_from_the_rest(run):
    summary = load_run(run).summary
    work = summary["online_s"] + summary["evaluation_s"]
    assert 0 < summary["acting_s"] < summary["playing_s"] < work
    assert 0 < summary["compile_s"] < summary["wall_s"]


def test_evaluate_writes_every_episode(run, tmp_path, capsys):
    out = tmp_path / "episodes.csv"
    words = ["--episodes", "10", "--trust-code", "--episodes-out", str(out)]
    assert main(["evaluate", str(run), *words]) == 0
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["episode"]) for line in lines] == list(range(10))
    assert {line["length"] for line in lines} == {"4"} and {line["won"] for line in lines} == {"1"}
    [row] = json.loads((run / "evaluation.json").read_text())
    for name, values in {
        "return": [float(line["return"]) for line in lines],
        "measure_waiting_time": [float(line["waiting_time"]) for line in lines],
        "measure_collisions": [float(line["collisions"]) for line in lines if line["collisions"]],
    }.items():
        assert row[name] == pytest.approx(np.mean(values))
    assert 0 < sum(line["collisions"] == "" for line in lines) < 10  # every other seed tells none
    assert "waiting time" in capsys.readouterr().out


def test_where_episodes_can_not_go_is_said_before_anything_is_played(run, tmp_path, capsys):
    for out in (tmp_path, tmp_path / "none" / "episodes.csv"):
        assert main(["evaluate", str(run), "--trust-code", "--episodes-out", str(out)]) == 2
        assert "expected a file in a directory that is there" in capsys.readouterr().err


def test_the_page_shows_each_measure(run, tmp_path):
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "own measures" in page and "<th" in page and "waiting time" in page
    assert (tmp_path / "figures" / "measures.svg").exists()


def test_what_evaluations_cost_is_said_in_steps_and_in_time():
    config = Config(online_env_steps=50_000, evaluate_every_env_steps=5_000, evaluate_episodes=128)
    spec: EnvSpec = Junction(length=64).spec
    said = evaluation_cost.in_steps(config, METHODS["scratch"], spec)
    assert "11 times 128 episodes" in said and "90,112" in said and "50,000 of training (180%)" in said
    assert evaluation_cost.plays(config, METHODS["ovmse"]) == 11 + 6 + 2
    assert "10 more as long take 2 min 05 s" in evaluation_cost.in_time(12.5, config, METHODS["scratch"])
