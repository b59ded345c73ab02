"""What the figures and the page of a sweep show, of scores chosen by hand."""

import numpy as np
import pytest

from ovmse.sweep import results
from ovmse.sweep.figures import beside, figures, over_value, points
from ovmse.sweep.given import grid_of
from ovmse.sweep.page import write_page
from ovmse.sweep.plan import placed
from ovmse.sweep.run import Swept

FAILED = results.State("failed", "its log said <b>no</b>")


def swept(out, *axes, score="win_rate", failed=()):
    """The cells of a grid with two seeds; the score of each is a hundredth of its place in the grid."""
    found = []
    for i, cell in enumerate(grid_of(None, (), [*axes, "seed=0,1"]).cells()):
        state, job = FAILED if i in failed else results.FINISHED, placed(cell, out)
        line = results.places(cell) | {"seed": cell.config.seed, "status": state.name, "reason": state.reason}
        if state == results.FINISHED:
            line |= {"score": score, "mean_online": i / 100, "last_fifth": i / 50, "first_tenth_change": 0.0}
        found.append(Swept(cell, job, state, [line]))
    return found


def cells_and_lines(found):
    return [one.cell for one in found], [line for one in found for line in one.lines]


def test_a_line_by_hand_for_each_combination_of_the_other_axes(tmp_path):
    cells, lines = cells_and_lines(swept(tmp_path, "gamma=0.5,0.9,0.7", "method=ovm,se"))
    drawn = figures(cells, lines)
    assert list(drawn) == ["gamma"]
    left, right = drawn["gamma"].axes
    ovm, se = left.lines
    assert list(ovm.get_xdata()) == list(se.get_xdata()) == [0.5, 0.7, 0.9]
    assert ovm.get_ydata() == pytest.approx([0.005, 0.085, 0.045])  # means of 0 and 1, 8 and 9, 4 and 5 hundredths
    assert se.get_ydata() == pytest.approx([0.025, 0.105, 0.065])
    assert right.lines[0].get_ydata() == pytest.approx(2 * ovm.get_ydata())
    names = [text.get_text() for text in drawn["gamma"].legends[0].get_texts()]
    assert names == ["method ovm", "method se"] and len(left.collections) == 2  # the bands


def test_far_values_are_on_a_logarithmic_axis_and_each_axis_of_numbers_has_its_figure(tmp_path):
    cells, lines = cells_and_lines(swept(tmp_path, "learning_rate=0.0001,0.01", "batch-episodes=4,8"))
    drawn = figures(cells, lines)
    assert list(drawn) == ["learning_rate", "batch_episodes"]
    assert [figure.axes[0].get_xscale() for figure in drawn.values()] == ["log", "linear"]


def test_names_stand_beside_each_other_and_kinds_of_scores_apart(tmp_path):
    cells, lines = cells_and_lines(swept(tmp_path, "method=ovm,se"))
    won, returns = lines[:2], [line | {"score": "return"} for line in lines[2:]]
    (figure,) = figures(cells, [*won, *returns]).values()
    assert [len(ax.lines) for ax in figure.axes] == [2] * 4  # an interval and a mean each
    labels = [[text.get_text() for text in ax.get_yticklabels()] for ax in figure.axes]
    assert labels == [["method ovm"], [""], ["method se"], [""]]


def test_without_scores_there_is_no_figure_and_one_seed_has_no_band(tmp_path):
    assert figures(*cells_and_lines(swept(tmp_path, "gamma=0.5,0.9", failed=range(4)))) == {}
    cells, lines = cells_and_lines(swept(tmp_path, "gamma=0.5,0.9"))
    found = points(cells, lines[::2])
    assert not over_value(found, "gamma").axes[0].collections and not np.isnan(found[0].means["last_fifth"].value)
    assert len(beside(found).axes) == 2


def test_the_page_has_tables_figures_reasons_and_the_grid(tmp_path):
    found = swept(tmp_path, "gamma=0.5,0.9", failed=[2])
    table = results.table(*cells_and_lines(found))
    page = write_page(tmp_path, grid_of(None, (), ["gamma=0.5,0.9"]), found, [table])
    text = page.read_text()
    assert page == tmp_path / "report.html" and "4 cells: 3 finished, 1 failed" in text
    assert "Over gamma" in text and text.count("<svg") == 1 and (tmp_path / "figures" / "sweep-gamma.png").is_file()
    assert "its log said &lt;b&gt;no&lt;/b&gt;" in text and "1, 1 failed" in text and "gamma&#34; = [0.5, 0.9]" in text
