"""What a sweep writes and prints of runs with scores chosen by hand."""

import csv
import dataclasses
import io
import json

import pyarrow.parquet
import pytest
from rich.console import Console
from support.synthetic_runs import small_run

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.report.table import Column, Table, print_table
from ovmse.sweep.grid import Cell
from ovmse.sweep.plan import Job
from ovmse.sweep.results import COLUMNS, State, lines_of, read, read_finished, state_of, table, write
from ovmse.sweep.run import look

SCORES = {"a": [0.5, 0.3, 0.6], "b": [0.5, 0.1, 0.8]}  # at 0, 100 and 200 environment steps


def swept(tmp_path, ended=("a", "b"), won=True):
    """Two seeds of one arm as cells, in an axis of seeds beside one of arms."""
    found = []
    for seed, (name, scores) in enumerate(SCORES.items()):
        run = tmp_path / "cells" / name
        small_run(run, {seed: scores}, before=0.5, won=won, seed=seed, online_env_steps=200, pretrained="shared")
        (run / "versions.json").write_text('{"ovmse": "1", "git_revision": "abc"}')
        if name in ended:
            (run / "summary.json").write_text('{"wall_s": 9.0, "cpu_s": 7.5, "state_sha256": "f00"}')
        found.append((Cell({"arm": "x", "seed": str(seed)}, config := Config(seed=seed, out=run)), Job(config)))
    return found


def lines_and_states(found):
    states = [state_of(job, {}) for _, job in found]
    lines = [lines_of(cell, job, state) for (cell, job), state in zip(found, states, strict=True)]
    return [line for some in lines for line in some], states


def test_names_are_printed_as_they_are():
    names = "[/]", "[red]x[/red]"
    console = Console(file=io.StringIO(), width=80)
    print_table(Table("", f"Against {names[0]!r}", "", [Column(name, "", [name]) for name in names]), console)
    assert console.file.getvalue().split() == ["Against", "'[/]'", *names, "─" * 17, *names]


def test_a_line_by_hand(tmp_path):
    found = swept(tmp_path)
    lines, _ = lines_and_states(found)
    write(tmp_path, [cell for cell, _ in found], lines)
    first = next(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert list(first) == ["arm", *COLUMNS]
    numbers = {
        "before": 0.5, "mean_online": (40 + 45) / 200, "first_tenth_change": (0.5 + 0.46) / 2 - 0.5, "final": 0.6,
        "last_fifth": (0.48 + 0.6) / 2, "best_optimistic": 0.6, "deepest_dip": 0.2, "env_steps": 200, "updates": 12,
        "wall_s": 9, "cpu_s": 7.5,
    }  # fmt: skip
    assert {name: float(first[name]) for name in numbers} == pytest.approx(numbers)
    texts = {"arm": "x", "seed": "0", "status": "finished", "reason": "", "score": "win_rate", "ovmse": "1"}
    texts |= {"git_revision": "abc", "state_sha256": "f00", "offline_run": "shared", "run": str(found[0][1].run)}
    assert {name: first[name] for name in texts} == texts


def test_parquet_holds_the_same_typed(tmp_path):
    found = swept(tmp_path, ended=("a",))
    lines, _ = lines_and_states(found)
    cells = [dataclasses.replace(cell, point={"γ": "0.5", "n": "3", **cell.point}) for cell, _ in found]
    lines = [{"γ": "0.5", "n": "3", **line} for line in lines]
    write(tmp_path, cells, lines)
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet")
    assert table.column_names == ["γ", "n", "arm", *COLUMNS]
    kinds = {"γ": "double", "n": "int64", "arm": "string", "seed": "int64", "final": "double", "run": "string"}
    assert {name: str(table.schema.field(name).type) for name in kinds} == kinds
    numbers = {"γ": 0.5, "n": 3}
    assert table.to_pylist() == [{**row, **numbers} for row in read(tmp_path / "results.csv")]
    write(tmp_path, cells, [])
    assert pyarrow.parquet.read_table(tmp_path / "results.parquet").schema == table.schema


@pytest.mark.parametrize("axis", ["", "run", "seeds", "pairs", "last fifth"])
def test_an_axis_without_a_name_of_its_own_is_refused(tmp_path, axis):
    grid = tmp_path / "grid.toml"
    grid.write_text(f"[axes.{axis!r}]\na = {{ seeds = 1 }}\nb = {{ seeds = 2 }}")
    with pytest.raises(UserError, match=f"grid.toml: axes.{axis}: .* name. Call the axis otherwise"):
        look(grid, tmp_path / "out")


def test_the_table_has_means_over_seeds(tmp_path):
    found = swept(tmp_path)
    shown = table([cell for cell, _ in found], lines_and_states(found)[0]).texts()
    assert shown["arm"] == ["x"] and shown["seeds"] == ["2"]
    assert shown["mean online"] == ["40 % [38–42 %]"]  # (0.425 + 0.375) / 2
    assert shown["first tenth"] == ["−3 points [−4 to −2]"]  # (−0.02 − 0.04) / 2
    assert shown["last fifth"] == ["60 % [54–66 %]"]  # (0.54 + 0.66) / 2


def test_a_seed_that_diverged_counts_as_it_ended_and_one_that_failed_has_no_scores(tmp_path):
    found = swept(tmp_path, ended=("a",))
    (cell, job) = found[1]
    job.failure.parent.mkdir()
    job.failure.write_text('{"reason": "halted: not finite"}')
    lines, states = lines_and_states(found)
    assert states[1] == State("failed", "halted: not finite") and lines[1].get("final") is None
    shown = table([cell for cell, _ in found], lines).texts()
    assert shown["seeds"] == ["1, 1 failed"] and shown["last fifth"] == ["54 %"]
    (job.run / "diagnosis").mkdir()
    halt = {"phase": "online", "seed": 1, "env_steps": 200, "updates": 12}
    (job.run / "diagnosis" / "numbers.json").write_text(json.dumps(halt))
    lines, states = lines_and_states(found)
    assert states[1].name == "diverged" and lines[1]["final"] == 0.0
    assert table([cell for cell, _ in found], lines).texts()["seeds"] == ["2, 1 diverged"]


def test_returns_are_the_score_where_nothing_can_be_won(tmp_path):
    found = swept(tmp_path, won=False)
    lines, _ = lines_and_states(found)
    assert lines[0]["score"] == "return" and lines[0]["final"] == pytest.approx(12.0)
    assert table([cell for cell, _ in found], lines).texts()["first tenth"] == ["−0.6 [−0.8 to −0.4]"]


def test_several_seeds_of_one_cell_have_a_line_each_and_none_before_they_ran(tmp_path):
    cell, job = swept(tmp_path, ended=())[0]
    config = dataclasses.replace(cell.config, seeds=3)
    several = Cell(cell.point, config), Job(config)
    assert lines_of(*several, State("to do")) == []
    assert [line["seed"] for line in lines_of(*several, State("stopped", "killed"))] == [0, 1, 2]


def test_what_finished_elsewhere_is_read_as_it_was_written(tmp_path):
    found = swept(tmp_path, ended=("a",))
    lines, states = lines_and_states(found)
    write(tmp_path, [cell for cell, _ in found], lines)
    again = read_finished(tmp_path / "results.csv")
    assert list(again) == ["a"] and states[0].name == "finished"
    nothing = dict.fromkeys(COLUMNS)
    told = {name: None if value == "" else value for name, value in lines[0].items()}
    assert again["a"] == [{**nothing, **told, "run": str(lines[0]["run"])}]
    text = (tmp_path / "results.csv").read_text()
    for wrong, says in [
        (text.replace("0.5", "half"), r"line 2, before: expected a number, got 'half'"),
        (text.replace("mean_online", "mean"), "line 2: expected the results.csv of a sweep; it has no mean_online"),
        (None, "expected the results.csv of a sweep: .*No such file"),
    ]:
        path = tmp_path / "wrong.csv"
        path.unlink(missing_ok=True) if wrong is None else path.write_text(wrong)
        with pytest.raises(UserError, match=says):
            read_finished(path)
