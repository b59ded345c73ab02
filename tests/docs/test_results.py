"""The tables of docs/ that are made of studies/results/ are what those hold."""

import csv
import importlib.util
from pathlib import Path

import pytest

from ovmse.sweep.results import COLUMNS

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("tables", ROOT / "studies" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_holds_what_was_measured(name):
    _, page, _ = tables.TABLES[name]
    assert tables.made(name) in (ROOT / "docs" / page).read_text()


def test_a_cell_that_was_not_run_says_so_and_one_that_failed_says_why():
    lines = [
        {"game": "climbing", "method": "ovmse", "largest_q_tot": 5.25, "final_return": [11.0, -30.0]},
        {"game": "two_step", "method": "ovmse", "error": "learning was halted"},
    ]
    assert "| `ovmse` | not run | 5.2 (11, -30) | learning was halted |" in tables.long_episodes(lines)


def test_a_cell_of_a_sweep_that_failed_or_was_stopped_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    there = {"a": {"status": "finished", "mean_online": "0.5", "last_fifth": "0.25"}, "b": {"status": "failed"}}
    with (tmp_path / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("arm", *COLUMNS))
        writer.writeheader()
        writer.writerows({"arm": arm, **cells} for arm, cells in there.items())
    [line] = tables.read("sweep")
    assert (line["arm"], line["before"], line["mean_online"], line["last_fifth"]) == ("a", None, 0.5, 0.25)
