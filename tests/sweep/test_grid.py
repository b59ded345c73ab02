"""Grid files: which cells they stand for, and how what can't be used is refused."""

import math
import tomllib

import pytest
from hypothesis import given, settings, strategies as st

from ovmse.core.errors import UserError
from ovmse.sweep.grid import cells, read_cells

GRID = """
[settings]
online-env-steps = 100_000
learning_rate = 0.001
change = ["offline_share=constant(0.2)"]
[axes]
seed = [0, 1, 2]
[axes.arm]
"finetune, paper-like" = { method = "finetune", change = ["explore.epsilon=linear(1.0,0.05,0.5)"] }
"ovmse" = { method = "ovmse", online_env_steps = 7 }
"""


def made(text):
    return cells(tomllib.loads(text))


def test_a_grid_is_the_product_of_its_axes_the_first_one_outermost():
    found = made(GRID)
    assert [(cell.point["seed"], cell.point["arm"]) for cell in found] == [
        (seed, arm) for seed in "012" for arm in ("finetune, paper-like", "ovmse")
    ]
    assert [cell.config.seed for cell in found] == [0, 0, 1, 1, 2, 2]
    assert str(found[1]) == "seed 0, arm ovmse"


def test_settings_lists_add_up_and_an_axis_goes_before_the_settings():
    first, second = made(GRID)[:2]
    assert first.config.change == ("offline_share=constant(0.2)", "explore.epsilon=linear(1.0,0.05,0.5)")
    assert second.config.change == ("offline_share=constant(0.2)",)
    assert (first.config.online_env_steps, second.config.online_env_steps) == (100_000, 7)
    assert first.config.learner.learning_rate == 0.001


def test_an_axis_of_an_option_takes_its_values_and_a_preset_is_underneath():
    found = made(
        '[settings]\npreset = "demo"\nseeds = 1\n[axes]\nchange = ["offline_loss.alpha=1", "offline_loss.alpha=2"]'
    )
    assert [cell.config.change for cell in found] == [("offline_loss.alpha=1",), ("offline_loss.alpha=2",)]
    assert found[0].config.seeds == 1 and found[0].config.data == "smax-3m-medium"
    assert [cell.point for cell in made("")] == [{}]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 3), max_size=4))
def test_there_are_as_many_cells_as_combinations(sizes):
    names = ("seed", "offline-updates", "learning-rate", "hidden")
    grid = {"axes": {name: list(range(1, size + 1)) for name, size in zip(names, sizes, strict=False)}}
    found = cells(grid)
    assert len(found) == math.prod(sizes) == len({cell.config for cell in found})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[axis]", "unknown table 'axis'. Did you mean 'axes'"),
        (
            "[settings]\nonline_env_stepz = 1",
            "settings: unknown option 'online_env_stepz'. Did you mean 'online_env_steps'",
        ),
        ('[settings]\nseeds = "a"', "settings.seeds: expected int, got 'a'"),
        ('[settings]\nout = "x"', "settings: unknown option 'out'.*own --out"),
        ("[settings]\nseed = 1\nsee-d = 2", "unknown option 'see-d'"),
        ("[settings]\nonline_env_steps = 1\nonline-env-steps = 2", "settings: online_env_steps comes twice"),
        ('[settings]\nmixer = "qmx"', "settings.mixer: unknown mixer 'qmx'. Did you mean"),
        ('[settings]\npreset = "papr"', "settings.preset: unknown preset 'papr'. Did you mean 'paper'"),
        ("settings = 3", "settings: expected a table, got 3"),
        ("[axes]\nseed = []", "axes.seed: no values"),
        ("[axes]\nseed = [1, 1]", "axes.seed: a value comes twice"),
        ("[axes]\nseed = 1", "axes.seed: expected a list of values or a table of named groups, got 1"),
        ("[axes.seed]\na = { seed = 1 }\nb = { gamma = 0.5 }", "axes.seed: expected seeds alone"),
        ("[axes]\nseed = [-1]", "seed -1: --seed must be 0 or more"),
        ('[axes]\nlearning-rate = [1, "a"]', "axes.learning-rate: expected float, got 'a'"),
        ("[axes]\nsede = [1]", "axes.sede: unknown option 'sede'. Did you mean 'seed'"),
        ("[axes.a]\nx = 3", "axes.a.'x': expected a table, got 3"),
        ("[axes.a]\nx = { seeds = 1.5 }", "axes.a.'x'.seeds: expected int, got 1.5"),
        ('[axes]\nmethod = ["ovm"]\n[axes.x]\ny = { method = "se" }', "axes.method and axes.x both set method"),
        (f"[axes]\nseed = {list(range(200))}\nseeds = {list(range(1, 200))}", "39,800 cells; expected at most 10,000"),
    ],
)
def test_what_can_not_be_used_is_named(text, message):
    with pytest.raises(UserError, match=message):
        made(text)


@pytest.mark.parametrize("content", [None, b"[settings", b"\xff", b"a = " + b"[" * 5000])
def test_a_file_that_is_no_grid_is_named(tmp_path, content):
    path = tmp_path / "grid.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="grid.toml: expected a TOML file"):
        read_cells(path)


def test_a_setting_of_the_method_is_an_axis_or_a_setting_by_its_path():
    found = made(
        '[settings]\nchange = "offline_share=constant(0.2)"\nexplore.epsilon.start = 0.2\nexplore.per_agent = true\n'
        '[axes]\n"online_target.weight.end" = [0, 0.3, "None"]'
    )
    shared = ("offline_share=constant(0.2)", "explore.epsilon.start=0.2", "explore.per_agent=True")
    assert [cell.config.change for cell in found] == [
        (*shared, f"online_target.weight.end={value}") for value in ("0", "0.3", "None")
    ]
    assert [cell.point for cell in found] == [{"online_target.weight.end": value} for value in ("0", "0.3", "None")]
    with pytest.raises(UserError, match=r"axes.explore.epsilon: expected .* got list"):
        made('[axes]\n"explore.epsilon" = [[1]]')
