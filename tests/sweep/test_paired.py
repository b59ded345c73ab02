"""One value of an axis against another: which lines are pairs, and the table, of scores chosen by hand."""

import pytest

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.sweep.grid import Cell
from ovmse.sweep.paired import axis_of, difference, pairs, table


def line(arm, data, seed, score, status="finished"):
    scores = dict.fromkeys(("mean_online", "first_tenth_change", "last_fifth"), score)
    return {"arm": arm, "data": data, "seed": seed, "status": status, "score": "win_rate", **scores}


LINES = [
    line("a", "x", 0, 0.5),
    line("a", "x", 1, 0.6),
    line("a", "y", 0, 0.7),
    line("b", "x", 0, 0.3),
    line("b", "x", 1, None, "failed"),
    line("b", "y", 0, 0.4),
    line("b", "y", 1, 0.9),
]
CELLS = [Cell({"seed": str(x["seed"]), "data": x["data"], "arm": x["arm"]}, Config()) for x in LINES]


def test_pairs_are_equal_in_all_but_the_axis_and_both_have_scores():
    found = pairs(LINES, ["data", "arm"], "arm", "a", "b")
    assert [(a["data"], a["seed"], b["data"], b["seed"]) for a, b in found] == [("x", 0, "x", 0), ("y", 0, "y", 0)]
    assert difference(found, "mean_online").value == pytest.approx((0.2 + 0.3) / 2)
    assert difference([], "mean_online") is None
    returns = [(one | {"score": "return"}, other | {"score": "return"}) for one, other in found]
    assert difference(returns, "mean_online").n == 2 and difference(found + returns, "mean_online") is None


def test_the_table_sets_the_other_values_against_one():
    shown = table(CELLS, LINES, "b").texts()
    assert shown["arm"] == ["a"] and shown["pairs"] == ["2"]
    assert shown["mean online"] == ["25 points [−39 to 89], 100 % above"]  # ± 12.706 · 0.05


def test_a_value_that_no_axis_has_is_refused():
    assert axis_of(CELLS, "x") == "data"
    with pytest.raises(UserError, match="--against 'bb': no axis has it. Known: a, b, x, y"):
        axis_of(CELLS, "bb")
    same = [*CELLS, Cell({"seed": "0", "data": "a", "arm": "a"}, Config())]
    with pytest.raises(UserError, match="--against 'a': several axes have the value: data, arm"):
        axis_of(same, "a")
