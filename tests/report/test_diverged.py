"""A seed that diverged counts as it ended, and what makes runs unequal is said."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.synthetic_runs import line, small_run

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.analysis.results import summarise_run
from ovmse.report import marl_eval
from ovmse.report.compare import compare
from ovmse.report.page import write_report
from ovmse.report.words import next_steps, reading
from ovmse.runs.metrics_file import counted_series, load_run

NAN = float("nan")


def compared(*paths: Path) -> Comparison:
    return compare_runs([load_run(path) for path in paths])


def test_a_diverged_seed_counts_as_it_ended(tmp_path: Path) -> None:
    run = load_run(
        small_run(tmp_path / "run", {0: [0.5, 0.6, 0.8], 1: [0.5, 0.9, NAN], 2: [0.5, 0.6, 0.7]}, before=0.5)
    )
    result = summarise_run(run)
    seed = result.seeds[1]
    assert seed.diverged and seed.counts and (seed.final, seed.last, seed.recovered) == (0.0, 200.0, None)
    assert seed.dip == 0.5 and seed.auc == pytest.approx((0.7 + 0.45) / 2) and seed.regret == pytest.approx(30 + 55)
    assert result.final.value == pytest.approx(0.5) and result.diverged == 1
    assert "50 % at the end (IQM over 3 seeds, 95 % interval 0–80 %; 1 of 3 seeds diverged)" in reading(run, result)
    assert next_steps(run, result)[0].startswith("Seed 1 diverged")
    assert "Seed 1 diverged in the online phase" in " ".join(run.notes)


def test_a_seed_that_was_never_finite_does_not_vanish(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", {0: [0.5, 0.6], 1: [NAN, NAN]}, before=0.5)
    result = summarise_run(load_run(run))
    assert [s.final for s in result.seeds] == [0.6, 0.0] and result.final.n == 2
    lost = small_run(tmp_path / "lost", {0: [NAN, NAN]}, before=0.5)  # not judged by its offline phase
    result = summarise_run(load_run(lost))
    assert (result.phase, result.final.value, result.diverged) == ("online", 0.0, 1)


def test_a_diverged_return_is_the_lowest_of_the_runs_compared(tmp_path: Path) -> None:
    good = small_run(tmp_path / "good", {0: [0.5, 0.4], 1: [0.5, 0.6]}, won=False, method="good")
    lost = small_run(tmp_path / "lost", {0: [0.5, 0.9], 1: [0.9, NAN]}, won=False, method="lost")
    found = compared(good, lost)
    assert [s.final for s in found.results[1].seeds] == pytest.approx([18.0, 8.0])  # 20 · 0.4: the lowest of all
    assert "lost: 1 of 2 seeds diverged and counts as the lowest return of these runs from then on." in found.notes
    [_, (_, _, scores)] = counted_series(found.runs[1], "online", "return")
    np.testing.assert_allclose(scores, [18.0, 8.0])  # curves have it, too
    seed = marl_eval.tree(found)["unknown"]["unknown"]["lost"]["seed_1"]
    assert list(seed) == ["step_0", "absolute_metrics"] and seed["absolute_metrics"] == {"return": [8.0]}


def test_tables_and_pages_say_which_seeds_diverged(tmp_path: Path) -> None:
    a = small_run(tmp_path / "a", {0: [0.5, 0.6], 1: [0.5, 0.7]}, method="good")
    b = small_run(tmp_path / "b", {0: [0.5, 0.9], 1: [0.5, NAN]}, method="lost")
    folder = compare([a, b], tmp_path / "out", Console(file=io.StringIO(), width=80))
    assert "| lost | 2, 1 diverged |" in (folder / "compare.md").read_text()
    assert ",seeds,diverged," in (folder / "compare.csv").read_text()
    assert "(diverged)" in write_report([b]).read_text()


def test_the_seed_that_halted_a_run_diverged(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", {0: [0.5, 0.6], 1: [0.5, 0.9]}, before=0.5)
    (run / "diagnosis").mkdir()
    numbers = {
        "cause": "loss",
        "seed": 1,
        "phase": "online",
        "updates": 17,
        "env_steps": 160,
        "what": "the loss is NaN",
    }
    (run / "diagnosis" / "numbers.json").write_text(json.dumps(numbers))
    result = summarise_run(load_run(run))
    assert [(s.final, s.last, s.diverged, s.counts) for s in result.seeds] == [
        (0.6, 100.0, False, True),
        (0.0, 160.0, True, True),
    ]
    (run / "summary.json").write_text('{"wall_s": 1.0}')  # it went on, and ended
    assert summarise_run(load_run(run)).diverged == 0


def test_what_makes_runs_unequal_is_said(tmp_path: Path) -> None:
    first = small_run(tmp_path / "a", {0: [0.5, 0.6], 1: [0.5, 0.6]}, before=0.5, method="a", evaluate_episodes=128)
    other = small_run(tmp_path / "b", {0: [0.5, 0.6], 1: [0.5]}, method="b", evaluate_episodes=8, seed=0, seeds=3)
    rows = [line("online", 0, 0, 990, 0.5), line("online", 0, 100, 991, 0.6), line("online", 0, 200, 992, 0.6)]
    rows += [line("online", 1, 0, 990, 0.5)]
    (other / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = " ".join(compared(first, other).notes)
    assert "b: seed 1, 2 did not finish the online phase; 1 of 3 count." in notes
    assert "were evaluated on between 8 and 128 episodes" in notes
    assert "average between 1 and 2 seeds" in notes
    assert "did between 10 and 990 gradient updates offline" in notes
    same = " ".join(compared(first, small_run(tmp_path / "c", {0: [0.5, 0.6], 1: [0.5, 0.6]}, before=0.5)).notes)
    assert "between" not in same
