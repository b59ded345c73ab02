"""Grids that are given as words of the command line, alone or beside a file."""

import tomllib

import pytest
from hypothesis import given, settings, strategies as st

from ovmse.core.errors import UserError
from ovmse.sweep.given import as_toml, grid_of, split

FILE = """
[settings]
online-env-steps = 100
change = "offline_share=constant(0.2)"
[axes]
learning-rate = [0.1]
seed = [0, 1]
"""
VALUES = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_words_alone_are_a_grid():
    words = [
        "online_target.weight.end=0,0.3",
        "explore.epsilon=linear(0.1, f(0,1)), constant(0.3)",
        "batch-episodes=4,8",
    ]
    found = grid_of(None, ["env=smax:3m", "data=d", "keep-checkpoint=true"], words).cells()
    assert len(found) == 8 and found[0].config.env == "smax:3m" and found[0].config.keep_checkpoint
    assert found[0].config.change == ("online_target.weight.end=0", "explore.epsilon=linear(0.1, f(0,1))")
    last = {"online_target.weight.end": "0.3", "explore.epsilon": "constant(0.3)", "batch_episodes": "8"}
    assert found[-1].point == last and found[-1].config.batch_episodes == 8


def test_words_go_before_a_file_lists_add_up_and_the_words_give_the_same_grid_again(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(FILE)
    grid = grid_of(
        path,
        ["online_env_steps=7", "change=explore.epsilon=constant(0.1)"],
        ["seed=5", "learning_rate=1", "method=ovm,se"],
    )
    assert [(cell.config.seed, cell.config.method) for cell in grid.cells()] == [(5, "ovm"), (5, "se")]
    assert {(cell.config.online_env_steps, cell.config.learner.learning_rate) for cell in grid.cells()} == {(7, 1.0)}
    assert list(grid.cells()[0].point) == ["learning-rate", "seed", "method"]
    assert grid.cells()[0].config.change == ("offline_share=constant(0.2)", "explore.epsilon=constant(0.1)")
    assert grid.words == (
        path, "--set", "online_env_steps=7", "--set", "change=explore.epsilon=constant(0.1)", "--grid", "seed=5",
        "--grid", "learning_rate=1", "--grid", "method=ovm,se",
    )  # fmt: skip
    assert grid_of(path).text == FILE and grid_of(path).words == (path,)


@pytest.mark.parametrize(
    ("settings", "axes", "message"),
    [
        ([], [], "no grid: name a grid file"),
        (["env"], [], "--set 'env': expected NAME=VALUE"),
        ([], ["seed="], "--grid 'seed=': expected NAME=VALUE"),
        ([], ["sede=1"], "unknown setting in --grid 'sede'. Did you mean 'seed'"),
        ([], ["seed=1,a"], "--grid seed: expected int, got 'a'"),
        ([], ["seed=1,"], "--grid seed: expected int, got ''"),
        (["keep-checkpoint=perhaps"], [], "--set keep_checkpoint: expected bool, got 'perhaps'"),
        (["guard-margin=null"], [], "--set guard_margin: expected a value, got 'null'"),
        (["mixer=qmx"], ["seed=1"], "--set mixer: "),
        ([], ["seed=1,1"], "--set and --grid: axes.seed: a value comes twice"),
    ],
)
def test_words_that_can_not_be_used_are_named(settings, axes, message):
    with pytest.raises(UserError, match=message):
        grid_of(None, settings, axes).cells()


def test_a_text_is_split_outside_of_brackets():
    assert split("a,f(1,g(2,3)),[4,5],") == ["a", "f(1,g(2,3))", "[4,5]", ""]


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), st.dictionaries(st.text(), VALUES, max_size=3), max_size=2))
def test_the_text_of_a_grid_is_read_as_the_grid(grid):
    assert tomllib.loads(as_toml(grid)) == grid
