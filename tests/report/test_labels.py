"""What runs are called where they stand beside each other."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.synthetic_runs import small_run

from ovmse import METHODS, constant, linear
from ovmse.analysis.comparison import compare_runs
from ovmse.analysis.labels import labels
from ovmse.config import Config, LearnerConfig
from ovmse.core.errors import UserError
from ovmse.core.settings import describe
from ovmse.methods.method import Method
from ovmse.methods.targets import OfflineValueMemory
from ovmse.render.draw import shortened, wrapped
from ovmse.report.compare import compare
from ovmse.report.plots_compare import compare_figure
from ovmse.runs.metrics_file import load_run

OVMSE = METHODS["ovmse"]
WEAK = replace(OVMSE, online_target=OfflineValueMemory(weight=linear(1.0, 0.3)))


def written(path: Path, method: Method = OVMSE, **settings: object) -> Path:
    """A run whose ``config.json`` is as training writes it."""
    config = Config(out=path, **settings)  # type: ignore[arg-type]
    return small_run(path, {0: [0.5, 0.6]}, **describe(config), method_value=describe(method))


def named(*paths: Path) -> tuple[str, ...]:
    return labels([load_run(path) for path in paths])


def test_an_ablation_is_named_by_what_was_changed(tmp_path: Path) -> None:
    usual = written(tmp_path / "usual", data="data/medium")
    weak = written(
        tmp_path / "no-data", WEAK, pretrained=tmp_path / "usual", data="data/expert", offline_updates=7, seeds=3,
        online_env_steps=99, evaluate_episodes=5, change=("online_target.weight=linear(1,0.3)",),
    )  # fmt: skip
    steady = written(tmp_path / "steady", replace(OVMSE, online_target=OfflineValueMemory(weight=constant(0.5))))
    greedy = replace(OVMSE, explore=replace(OVMSE.explore, epsilon=linear(0.2, 0.05)))  # type: ignore[type-var]
    changed = written(tmp_path / "greedy", greedy, learner=LearnerConfig(gamma=0.9, target_every_updates=200))
    assert named(usual, weak) == ("ovmse, λ_end 0.1", "ovmse, λ_end 0.3")
    assert named(usual, steady, changed, weak) == (
        "ovmse, λ linear(1, 0.1)",
        "ovmse, λ 0.5",
        "ovmse, γ 0.9, target every updates 200, λ linear(1, 0.1), ε linear(0.2, 0.05)",
        "ovmse, λ linear(1, 0.3)",
    )
    same = written(tmp_path / "same", data="data/medium")
    assert named(usual, same, weak) == ("ovmse (usual)", "ovmse (same)", "ovmse, λ_end 0.3")  # most are as usual
    other = written(tmp_path / "other", replace(OVMSE, offline_loss=METHODS["calql"].offline_loss))
    assert named(usual, other) == ("ovmse, offline loss CQL", "ovmse, offline loss CalibratedCQL")


def test_a_run_without_an_online_phase_is_called_so(tmp_path: Path) -> None:
    whole, offline = written(tmp_path / "whole"), written(tmp_path / "offline", replace(OVMSE, online_target=None))
    assert named(whole, offline) == ("ovmse, online target OfflineValueMemory", "ovmse, no online phase")


def test_labels_of_ones_own_are_one_for_each_run_and_distinct(tmp_path: Path) -> None:
    runs = [load_run(written(tmp_path / name)) for name in "ab"]
    found = compare_runs(runs, named=["λ = 0", "λ = 1"])
    assert found.names == found.methods == ("λ = 0", "λ = 1")
    with pytest.raises(UserError, match="one label for each run: expected 2, got 1"):
        compare_runs(runs, named=["one"])
    with pytest.raises(UserError, match="'one' stands for several runs"):
        compare_runs(runs, named=["one", "one"])
    with pytest.raises(UserError, match="a label is empty"):
        compare_runs(runs, named=["one", " "])
    apart = [*runs, load_run(written(tmp_path / "c", env="smax:2s3z"))]
    assert compare_runs(apart, named=["one", "two", "two"]).totals[0].method == "two"  # one method in two environments


def test_a_table_of_80_columns_keeps_words_whole(tmp_path: Path) -> None:
    paths = [written(tmp_path / "usual"), written(tmp_path / "weak", WEAK)]
    console = Console(file=io.StringIO(), width=80)
    compare(paths, tmp_path / "out", console, labels=["pretrained", "reinitialised entirely"])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("pretrained", "reinitialised", "recovered", "regret", "before", "beats"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_figure_cuts_no_label_into_another(tmp_path: Path) -> None:
    long = "ovmse, target every updates 200, λ_end "
    runs = [load_run(written(tmp_path / name)) for name in "ab"]
    figure = compare_figure(compare_runs(runs, named=[f"{long}0.1", f"{long}0.3"]))
    shown = {text.get_text().replace("\n", " ") for axes in figure.get_axes() for text in axes.get_yticklabels()}
    assert {f"{long}0.1", f"{long}0.3"} <= shown
    assert wrapped("a word beside", 8).splitlines() == ["a word", "beside"]
    assert shortened(["attack enemy 1", "stop"], 8) == ["attack …", "stop"]
    assert shortened(["attack enemy 1", "attack enemy 2"], 8) == ["att…my 1", "att…my 2"]
    assert shortened(["attack 1 enemy", "attack 2 enemy"], 8) == ["attack 1 enemy", "attack 2 enemy"]
