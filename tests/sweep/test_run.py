"""Sweeps in processes: stopped, killed and gone on with, grown, and with a cell that fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.sweeps import Place

from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.sweep.given import Grid, grid_of
from ovmse.sweep.results import COLUMNS
from ovmse.sweep.run import command, look, opened, sweep

pytestmark = pytest.mark.slow

NEW = """
"fails" = { method = "finetune", loss_limit = 1e-20 }
"new" = { method = "finetune", change = ["explore.epsilon=constant(0.3)"] }
"""


def test_asked_to_stop_it_says_how_to_go_on(place):
    assert place.stopped.value.code == 130
    assert f"Go on with: ovmse sweep {place.grid} --out {place.out} --workers 1" in str(place.stopped.value)
    assert command(Grid("g", ("g",), ""), Path("o"), trust_code=True) == "ovmse sweep g --out o --trust-code"


def test_killed_it_goes_on_and_no_cell_runs_on_beside(place):
    assert [one.state.name for one in place.found] == ["finished"]
    assert not list(place.out.glob("*/*/checkpoints"))  # of what has ended
    with pytest.raises(ProcessLookupError):
        os.kill(place.cell, 0)


def test_a_cell_is_bit_for_bit_the_run_alone(place, tmp_path):
    program = (
        "import dataclasses, os, sys; from pathlib import Path;"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from ovmse.sweep.grid import read_cells; from ovmse.training.train import train;"
        "[cell] = read_cells(Path(sys.argv[1])); train(dataclasses.replace(cell.config, out=Path(sys.argv[2])))"
    )  # on one core, as a cell is: two may give other last digits
    alone = tmp_path / "alone"  # with an offline phase of its own
    subprocess.run([sys.executable, "-c", program, str(place.grid), str(alone)], check=True)
    expected = json.loads((alone / "summary.json").read_text())["state_sha256"]
    assert [line["state_sha256"] for line in place.lines()] == [expected]


def test_results_have_a_line_per_cell_and_seed(place):
    lines = place.lines()
    assert list(lines[0]) == ["arm", *COLUMNS]
    for line, one in zip(lines, place.found, strict=True):
        rows = [json.loads(row) for row in (one.job.run / "metrics.jsonl").read_text().splitlines()]
        assert (line["arm"], line["seed"], line["status"]) == (one.cell.point["arm"], "3", "finished")
        assert float(line["final"]) == rows[-1]["win_rate"] and int(line["env_steps"]) == rows[-1]["env_steps"] == 32
        assert float(line["before"]) == [row["win_rate"] for row in rows if row["phase"] == "offline"][-1]
        assert float(line["cpu_s"]) > 0 and int(line["peak_memory_bytes"]) > 0 and line["run"] == str(one.job.run)
        assert Path(line["offline_run"]).parent == place.out / "offline" and line["score"] == "win_rate"


def test_what_is_finished_is_not_run_again_and_the_table_is_printed(place, capsys):
    before = place.ends()
    for more in ([], ["--table"]):
        assert main(["sweep", str(place.grid), "--out", str(place.out), *more]) == 0
        said = capsys.readouterr().out
        assert "first tenth" in said and "shy" in said and "Next: ovmse report " in said
        written = [place.out / name for name in ("report.html", "results.csv", "results.parquet")]
        assert "report.html, results.csv, results.parquet" in said and all(file.is_file() for file in written)
        for file in written:
            file.unlink()
    assert place.ends() == before
    main(["sweep", str(place.grid), "--out", str(place.out), "--table"])


def test_what_finished_elsewhere_is_not_run_again(place, tmp_path):
    [one] = sweep(place.grid, tmp_path / "here", workers=1, finished=place.out / "results.csv")
    assert one.state.name == "finished" and not list((tmp_path / "here").glob("cells/*"))
    assert (tmp_path / "here" / "results.csv").read_text() == (place.out / "results.csv").read_text()


def test_a_grown_grid_runs_what_is_new_and_a_failed_cell_does_not_stop_the_others(place, capsys):
    before = place.ends()
    place.write(more=NEW)
    words = ["sweep", str(place.grid), "--out", str(place.out), "--workers", "1"]
    for _ in range(2):  # the second time nothing is run, what failed neither
        with pytest.raises(SystemExit) as end:
            main(words)
        said = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 1 and "failed: seed 3, arm fails: its offline phase failed: " in said
        assert f"Next: ovmse compare {place.out}" in said and "--retry-failed (to try again: 1 cell)" in said
    assert [line["status"] for line in place.lines()] == ["finished", "failed", "finished"]
    shy, failed, new = place.lines()
    assert shy["offline_run"] == new["offline_run"] and shy["state_sha256"] != new["state_sha256"]
    assert "loss" in failed["reason"] and "\n" not in failed["reason"] and failed["mean_online"] == ""
    assert before.items() < place.ends().items() and len(place.ends()) == 2
    place.write(seeds="[3, 4]")
    assert [one.state.name for one in look(place.grid, place.out)] == ["finished", "to do"]


def test_what_can_not_be_run_is_refused_before_anything_is_written(tmp_path):
    place = Place(tmp_path)
    for more, message in [
        ('bad = { method = "ovmsee" }', "grid.toml: seed 3, arm bad: unknown method 'ovmsee'"),
        ('bad = { change = ["explore.epsilom=1"] }', "arm bad: .*Did you mean 'epsilon'"),
        ('bad = { data = "nowhere" }', "grid.toml: seed 3, arm bad: .*nowhere"),
        ('bad = { env = "matrix:climbing" }', "arm bad: .*climbing"),
        ('bad = { method = "own_method:M" }', "trust-code"),
        ('bad = { method = "finetune", change = "explore.epsilon=constant(0.1)" }', "same run as seed 3, arm shy"),
    ]:
        place.write(more=more)
        with pytest.raises(UserError, match=message):
            sweep(place.grid, place.out)
    place.write()
    place.grid.write_text(place.grid.read_text().replace("axes.arm", "axes.status"))
    with pytest.raises(UserError, match=r"axes.status: a column of results.csv"):
        sweep(place.grid, place.out)
    assert not place.out.exists()


def test_a_directory_is_one_sweeps(tmp_path):
    place = Place(tmp_path)
    with pytest.raises(UserError, match="holds no sweep"):
        sweep(place.grid, tmp_path)
    with opened(place.out, grid_of(place.grid)):  # noqa: SIM117
        with pytest.raises(UserError, match="in use by process"), opened(place.out, grid_of(place.grid)):
            pass
