"""A run's directory in Python: the table, the figure, the page and the team are those of the files."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.policies import write_run as write_networks
from support.synthetic_runs import line, small_run, write_run

import ovmse
from ovmse.core.errors import UserError
from ovmse.runs.metrics_file import COLUMNS
from ovmse.system.files import write_json_lines


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> ovmse.Run:
    return ovmse.Run(write_run(tmp_path_factory.mktemp("runs") / "full", evaluations=5))


def test_the_table_has_a_row_for_each_evaluation_and_seed(tmp_path):
    path = small_run(tmp_path / "run", {0: [0.5, 0.25], 3: [0.75, 1.0]}, before=0.5)
    frame = ovmse.Run(path).frame()
    assert list(frame.columns) == ["phase", "step", "seed", *COLUMNS]
    assert frame["phase"].tolist() == ["offline"] * 2 + ["online"] * 4
    assert frame["seed"].tolist() == [0, 3] * 3
    assert frame["step"].tolist() == [10, 10, 0, 0, 100, 100]
    assert frame["win_rate"].tolist() == [0.5, 0.5, 0.5, 0.75, 0.25, 1.0]
    assert frame["step"].dtype == frame["env_steps"].dtype == np.int64
    assert frame["loss"].isna().all() and frame["rolled_back"].isna().all()


def test_steps_are_aligned_where_seeds_overshoot_their_marks(tmp_path):
    path = small_run(tmp_path / "run", {0: [], 1: []})
    steps = {0: [0, 103, 201], 1: [0, 100, 207, 300]}  # the last evaluation of seed 0 is not written yet
    rows = [line("online", seed, at, at, 0.5) for seed, mine in steps.items() for at in mine]
    write_json_lines(path / "metrics.jsonl", rows)
    frame = ovmse.Run(path).frame()
    assert frame["step"].tolist() == [0, 0, 100, 100, 201, 201, 300]
    assert frame["env_steps"].tolist() == [0, 0, 103, 100, 201, 207, 300]
    table = frame.pivot(index="step", columns="seed", values="win_rate")
    assert table.shape == (4, 2) and table.isna().sum().sum() == 1


def test_a_run_under_way_is_read_anew_each_time(tmp_path):
    run = ovmse.Run(small_run(tmp_path / "run", {0: [0.5]}, online_env_steps=300))
    assert len(run.frame()) == 1
    write_json_lines(run.path / "metrics.jsonl", [line("online", 0, 100 * k, k, 0.5) for k in range(3)])
    assert len(run.frame()) == 3
    assert "unfinished: 200 of 300 environment steps of the online phase" in run._repr_html_()


def test_a_batch_round_is_in_the_table_and_says_how_far_it_is(tmp_path):
    run = ovmse.Run(small_run(tmp_path / "run", {0: []}))
    rows = [line("round", 0, 0, 0, 0.5) | {"updates": 10 * k} for k in range(3)]
    write_json_lines(run.path / "metrics.jsonl", rows)
    frame = run.frame()
    assert frame["phase"].tolist() == ["round"] * 3 and frame["step"].tolist() == [0, 10, 20]
    assert "unfinished: 20 gradient updates of the round" in run._repr_html_()


def test_the_figure_shows_both_phases_and_is_a_picture_in_a_notebook(full):
    figure = full.plot()
    assert isinstance(figure, Figure) and [ax.get_ylabel() for ax in figure.axes[::2]] == [
        "win rate",
        "return per episode",
    ]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [ax.get_ylabel() for ax in full.plot("td_error").axes] == ["td error", ""]


def test_runs_are_drawn_into_axes_of_ones_own(full, tmp_path):
    ax = Figure().add_subplot()
    other = ovmse.Run(small_run(tmp_path / "other", {0: [0.5, 0.25], 1: [0.75, 1.0]}))
    assert full.plot(ax=ax) is ax and other.plot(ax=ax, label="mine") is ax
    assert [x.get_text() for x in ax.get_legend().get_texts()] == ["full", "mine"]
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()
    assert second.get_xdata().tolist() == [0, 100] and second.get_ydata().tolist() == [0.625, 0.625]
    offline = full.plot(ax=Figure().add_subplot(), phase="offline", color="black")
    assert offline.get_xlabel() == "gradient updates" and offline.get_lines()[0].get_color() == "black"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"field": "win_rat"}, "unknown field 'win_rat'. Did you mean 'win_rate'"),
        ({"field": "rolled_back"}, "'rolled_back' was not measured"),
        ({"field": "lambda", "phase": "offline", "ax": Figure().add_subplot()}, "'lambda' was not measured offline"),
        ({"color": "red"}, "need axes"),
    ],
)
def test_what_cannot_be_drawn_is_said(full, asked, said):
    with pytest.raises(UserError, match=said):
        full.plot(**asked)


def test_the_summary_tells_the_result_and_escapes_what_files_say(full, tmp_path):
    html = full._repr_html_()
    assert "finished" in html and "smax:3m" in html and "before the handover" in html
    bad = ovmse.Run(small_run(tmp_path / "run", {0: [0.5]}, env="<script>"))
    assert "<script>" not in bad._repr_html_() and "&lt;script&gt;" in bad._repr_html_()
    (bad.path / "metrics.jsonl").write_text("")
    assert "no evaluation yet" in bad._repr_html_()


def test_to_look_at_a_run_imports_no_jax(full):
    look = f"import sys, ovmse; run = ovmse.Run({str(full.path)!r}); run.frame(); run.plot(); run._repr_html_()"
    subprocess.run([sys.executable, "-c", f"{look}; assert 'jax' not in sys.modules"], check=True)


def test_no_such_run():
    with pytest.raises(UserError, match="runs/nowhere is not there"):
        ovmse.Run("runs/nowhere")


def test_the_page_and_the_team_are_those_of_the_commands(full, tmp_path):
    page = full.report(tmp_path / "page.html")
    assert page == tmp_path / "page.html" and "<svg" in page.read_text()
    write_networks(tmp_path / "run", "ovmse")
    run = ovmse.Run(str(tmp_path / "run"))
    team, same = run.team(seed=1), ovmse.load(run.path, seed=1)
    assert all(np.array_equal(same.weights[name], array) for name, array in team.weights.items())
    shutil.rmtree(run.path)
    with pytest.raises(UserError, match="is not there"):
        run.team()
