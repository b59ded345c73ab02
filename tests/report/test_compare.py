"""Several runs over several environments: totals, scaled returns, regret, and marl-eval's JSON."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.synthetic_runs import line, small_run, write_run

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.core.errors import UserError
from ovmse.report import marl_eval
from ovmse.report.compare import compare
from ovmse.report.page import write_report
from ovmse.runs.metrics_file import load_run
from ovmse.stats.estimates import Estimate

# Final scores of two seeds by environment and method; every run begins at 0.5 and spends 100 steps.
FINALS = {
    ("smax:3m", "finetune"): (0.4, 0.6),
    ("smax:3m", "ovmse"): (0.6, 0.8),
    ("smax:2s3z", "finetune"): (0.2, 0.4),
    ("smax:2s3z", "ovmse"): (0.1, 0.3),
}


def runs_of(folder: Path, finals: dict[tuple[str, str], tuple[float, float]], won: bool = True) -> list[Path]:
    return [
        small_run(
            folder / f"{env.partition(':')[2]}-{method}",
            {seed: [0.5, score] for seed, score in enumerate(scores)},
            won=won,
            env=env,
            method=method,
            data=f"{env}-medium",
        )
        for (env, method), scores in finals.items()
    ]


def comparison(paths: list[Path], **options: float) -> Comparison:
    return compare_runs([load_run(p) for p in paths], **options)


def show(paths: list[Path], out: Path, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    compare(paths, out, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_methods_are_matched_across_environments(tmp_path: Path) -> None:
    found = comparison(runs_of(tmp_path, FINALS))
    assert found.methods == ("finetune", "ovmse") * 2  # not split by their data, which differ with the environment
    assert found.names[0] == "finetune, smax:3m" and len(set(found.names)) == 4
    first, second = found.totals
    assert (first.method, second.method) == ("finetune", "ovmse")
    assert first.iqm.value == pytest.approx(0.4) and second.iqm.value == pytest.approx(0.45)  # the middle two of four
    assert second.mean.value == second.median.value == pytest.approx((0.7 + 0.2) / 2)
    assert second.gap is not None and second.gap.value == pytest.approx(0.55)
    # 3m: 3.5 of 4 pairs (0.6 against 0.6 is a tie), 2s3z: 1 of 4.
    assert first.better is None
    assert second.better is not None and second.better.value == pytest.approx((3.5 / 4 + 1 / 4) / 2)


def test_each_run_is_set_against_the_first_of_its_environment(tmp_path: Path) -> None:
    better = comparison(runs_of(tmp_path, FINALS)).better
    assert better[0] is None and better[2] is None
    assert better[1] is not None and better[1].value == pytest.approx(3.5 / 4)
    assert better[3] is not None and better[3].value == pytest.approx(1 / 4)


def test_returns_are_scaled_within_each_environment_before_they_are_pooled(tmp_path: Path) -> None:
    found = comparison(runs_of(tmp_path, FINALS, won=False))
    # Returns are 20 times the numbers above; evaluations span 8 to 16 on 3m (0.4 to 0.8), 2 to 10 on 2s3z (0.1 to 0.5).
    three, two = found.totals[1].finals
    np.testing.assert_allclose(three, [(12 - 8) / 8, 1.0])
    np.testing.assert_allclose(two, [0.0, (6 - 2) / 8])
    assert any("returns are scaled" in note for note in found.notes)


def test_regret_of_returns_is_to_the_best_seen_in_the_environment(tmp_path: Path) -> None:
    paths = runs_of(tmp_path, FINALS, won=False)
    found = comparison(paths)
    assert [r.reference for r in found.results] == [16.0, 16.0, 10.0, 10.0]
    # From 10 to 12 and from 10 to 16 over 100 steps, against 16: 5 and 3 missing on average.
    assert found.results[1].regret == pytest.approx(Estimate(400.0, 300.0, 500.0, 2))
    given = comparison(paths, reference=20.0).results[1]
    assert given.reference == 20.0 and given.regret is not None and given.regret.value == pytest.approx(800.0)


def test_a_reference_in_per_cent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a share in \[0, 1\]; got 80"):
        comparison(runs_of(tmp_path / "won", FINALS), reference=80.0)
    with pytest.raises(UserError, match="finite; got nan"):
        comparison(runs_of(tmp_path / "played", FINALS, won=False), reference=float("nan"))


def test_one_environment_has_no_scaling_and_one_total_per_run(tmp_path: Path) -> None:
    found = comparison(runs_of(tmp_path, FINALS, won=False)[:2])
    assert [t.iqm for t in found.totals] == [r.final for r in found.results]
    assert [t.gap for t in found.totals] == [None, None] and found.totals[1].better == found.better[1]


def test_a_method_that_is_missing_somewhere_is_in_no_total(tmp_path: Path) -> None:
    paths = runs_of(tmp_path, FINALS)
    partly = comparison(paths[:3])
    assert [t.method for t in partly.totals] == ["finetune"]
    assert "Not run in every environment, so in no total: ovmse." in partly.notes
    text = show(paths[:4:3], tmp_path / "none")  # no method in both environments
    assert "in no total: finetune, ovmse" in " ".join(text.split())
    assert (tmp_path / "none" / "profiles.png").is_file()


def test_settings_of_an_environment_make_it_another(tmp_path: Path) -> None:
    a = small_run(tmp_path / "a", {0: [0.5]}, env="smax:3m", env_settings=[])
    b = small_run(tmp_path / "b", {0: [0.5]}, env="smax:3m", env_settings=["max_steps=60"])
    assert comparison([a, b]).tasks == ("smax:3m", "smax:3m (max_steps=60)")


def test_unequal_seeds_and_budgets_are_said(tmp_path: Path) -> None:
    paths = runs_of(tmp_path, FINALS)
    longer = small_run(tmp_path / "long", {0: [0.5, 0.5, 0.6]}, env="smax:3m", method="ovmse")
    notes = " ".join(comparison([paths[0], longer, *paths[2:]]).notes)
    assert "On smax:3m the runs spent between 100 and 200" in notes and "more seeds in one environment" in notes


@pytest.mark.parametrize("width", [80, 160])
def test_tables_of_several_environments(tmp_path: Path, width: int) -> None:
    text = show(runs_of(tmp_path / "runs", FINALS), tmp_path / "out", width)
    assert "Over all environments" in text and max(map(len, text.splitlines())) <= width
    assert text.count("beats") == 2 and "0.88" in text and "0.56" in text  # no column is lost on a narrow terminal
    rows = list(csv.DictReader((tmp_path / "out" / "total.csv").read_text().splitlines()))
    assert [r["method"] for r in rows] == ["finetune", "ovmse"] and rows[0]["environments"] == "2"
    assert float(rows[1]["p_better_than_first"]) == pytest.approx(0.5625) and rows[0]["p_better_than_first"] == ""
    assert float(rows[1]["p_better_than_first_low"]) <= 0.5625 <= float(rows[1]["p_better_than_first_high"])
    written = (tmp_path / "out" / "compare.md").read_text()
    assert (
        "| ovmse | 4 | 45 % [" in written
        and "the highest evaluation; not for ranking" in written
        and "best (optimistic) |" in written
    )


@pytest.mark.slow
def test_page_has_the_totals_and_the_profiles(tmp_path: Path) -> None:
    page = write_report(runs_of(tmp_path / "runs", FINALS), tmp_path / "page").read_text()
    assert "stratified bootstrap" in page and "Performance profiles." in page and "optimality gap" in page


def test_marl_eval_json_has_the_documented_structure(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / m, seeds=2, evaluations=4, method=m) for m in ("finetune", "ovmse")]
    show(paths, tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "marl_eval.json").read_text())
    assert list(tree) == ["smax"] and list(tree["smax"]) == ["3m"] and list(tree["smax"]["3m"]) == ["finetune", "ovmse"]
    runs = tree["smax"]["3m"]["ovmse"]
    assert list(runs) == ["seed_0", "seed_1"]
    trace = load_run(paths[1]).online[1].columns
    for seed in runs.values():
        assert list(seed) == ["step_0", "step_1", "step_2", "step_3", "absolute_metrics"]
        assert set(seed["step_0"]) == {"step_count", "elapsed_time", "win_rate", "return"}
        assert seed["step_0"]["elapsed_time"] == 0.0 and isinstance(seed["step_3"]["step_count"], int)
        assert seed["absolute_metrics"] == {m: seed["step_3"][m] for m in ("win_rate", "return")}  # the last evaluation
    for k in range(4):
        step = runs["seed_1"][f"step_{k}"]
        assert step["step_count"] == trace["env_steps"][k]
        assert (step["win_rate"], step["return"]) == ([trace["win_rate"][k]], [trace["return"][k]])


def test_marl_eval_json_holds_what_is_finite_and_says_what_does_not_stack(tmp_path: Path) -> None:
    a = small_run(tmp_path / "a", {0: [0.5, 0.6], 1: [0.5, 0.7]}, env="my_game", alpha=[1], won=False)
    b = small_run(tmp_path / "b", {0: [0.5, 0.6]}, env="my_game", alpha=[2], won=False)
    with (b / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line("online", 0, 200, 12, 0.7) | {"win_rate": None, "return": float("nan")}) + "\n")
    found = comparison([a, b])
    runs = marl_eval.tree(found)["my_game"]["my_game"]
    assert list(runs) == ["ovmse alpha [1]", "ovmse alpha [2]"]  # marl-eval allows no commas
    assert list(runs["ovmse alpha [2]"]["seed_0"]) == ["step_0", "step_1", "absolute_metrics"]
    assert set(runs["ovmse alpha [1]"]["seed_0"]["step_0"]) == {"step_count", "elapsed_time", "return"}
    assert len(marl_eval.unfit(found)) == 1  # two seeds there, one here
    assert marl_eval.unfit(comparison([a, a])) == []


def test_marl_eval_json_of_a_run_without_an_online_phase(tmp_path: Path) -> None:
    a = small_run(tmp_path / "a", {0: []}, before=0.4, env="matrix:climbing", method="offline")
    seed = marl_eval.tree(comparison([a]))["matrix"]["climbing"]["offline"]["seed_0"]
    assert seed["step_0"]["step_count"] == 10 and seed["absolute_metrics"]["win_rate"] == [0.4]  # gradient updates
