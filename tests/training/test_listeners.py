"""Who listens to a run hears each row once, in order; what `on_row` raises leaves a run that can go on."""

import pytest
from support import tracker_clients
from support.episodes import small_run, write_two_step

import ovmse
from ovmse.core.errors import UserError
from ovmse.runs import checkpoints
from ovmse.runs.saved_config import read_config
from ovmse.system.files import read_json_lines
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]


def test_a_run_goes_on_after_on_row_has_raised(tmp_path, monkeypatch):
    noted, told = tracker_clients.install(monkeypatch), []

    def on_row(row):
        told.append(row)
        row["return"] = "changed"  # a copy
        if row["env_steps"] == 32:
            raise ZeroDivisionError("division by zero")

    out = tmp_path / "run"
    config = small_run(out, method="ovmse", data=write_two_step(tmp_path / "data"), log=("trackio",))
    with pytest.raises(UserError, match="on_row raised ZeroDivisionError: division by zero") as raised:
        train(config, on_row=on_row)
    assert isinstance(raised.value.__cause__, ZeroDivisionError) and str(out) in str(raised.value)
    assert checkpoints.is_unfinished(out) and len(told) == 13
    assert len(read_json_lines(out / "metrics.jsonl")) == 15  # nothing that was written is lost

    more = []
    result = train(read_config(out), resume=True, on_row=more.append)
    assert more == result.rows[15:] and len(more) == 3
    assert [{**row, "return": 0} for row in told] == [{**row, "return": 0} for row in result.rows[:13]]
    assert result.rows == read_json_lines(out / "metrics.jsonl")

    assert all(run["project"] == "ovmse" and run["group"] == "run" for run in noted.opened)
    assert [len(rows) for rows in noted.runs.values()] == [6] * 3
    frame = ovmse.Run(out).frame()
    for seed, rows in enumerate(noted.runs.values()):
        sent = [values.get("online/return", values.get("offline/return")) for _, values in rows]
        assert sent == frame.loc[frame["seed"] == seed, "return"].tolist()

    evaluated = ovmse.Run(out).evaluate(episodes=4, teams="offline")
    assert evaluated["seed"].tolist() == [0, 1, 2] and set(evaluated["team"]) == {"offline"}
    assert evaluated["return"].isin([0.0, 1.0, 7.0, 8.0]).all()


def test_a_tracker_without_its_client_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("ovmse.training.trackers.NEEDS", {"wandb": "no_such_client"})
    with pytest.raises(UserError, match="--log wandb needs the package no_such_client"):
        train(small_run(tmp_path / "run", method="scratch", log=("wandb",)))
    assert not (tmp_path / "run").exists()
