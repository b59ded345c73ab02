"""Configurations: changes by path, values from text, what is refused, and JSON."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ovmse.config import PRESETS, Config
from ovmse.core.errors import UserError
from ovmse.core.schedules import constant, cosine, step
from ovmse.core.settings import describe
from ovmse.envs.settings import parse_settings
from ovmse.methods import METHODS
from ovmse.methods.losses import CQL
from ovmse.methods.overrides import change_method

OVMSE = METHODS["ovmse"]


def test_a_change_reaches_the_setting_and_nothing_else():
    changed = change_method(OVMSE, ("offline_loss.alpha=5", "online_target.weight.end = 0.2"))
    assert changed.offline_loss == CQL(alpha=5)
    assert changed.online_target.weight.end == 0.2
    assert changed.explore == OVMSE.explore and OVMSE.offline_loss.alpha == 3.0


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("explore.epsilon=cosine(0.5, 0.1, share=0.5)", ("explore", "epsilon"), cosine(0.5, 0.1, 0.5)),
        ("online_target.weight=step(1.0, 0.0)", ("online_target", "weight"), step(1.0, 0.0)),
        ("offline_share=constant(0.25)", ("offline_share",), constant(0.25)),
        ("offline_loss.form=joint", ("offline_loss", "form"), "joint"),
        ("offline_loss.form='counterfactual'", ("offline_loss", "form"), "counterfactual"),
        ("offline_share.start=0.5", ("offline_share",), constant(0.5)),
        ("online_loss=CQL(0.5, form=joint)", ("online_loss",), CQL(0.5, "joint")),
    ],
)
def test_values_from_text(change, path, value):
    part = change_method(dataclasses.replace(OVMSE, online_target=OVMSE.online_target), (change,))
    for name in path:
        part = getattr(part, name)
    assert part == value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("offline_loss.alpha", "path=value"),
        ("offline_loss.alfa=1", "no setting 'alfa'. Did you mean 'alpha'"),
        ("offline_loss.alpha.deeper=1", "float has no setting"),
        ("explore.epsilon=linear(2.0, 0.0)", "ε must stay"),
        ("explore.epsilon=lineal(0.2, 0.0)", "can't read the value"),
        ("explore.epsilon=linear(0.2", "can't read the value"),
        ("offline_loss.alpha=-1", "alpha must be 0 or more"),
        ("offline_loss.form=jiont", "form"),
    ],
)
def test_unusable_changes_are_refused(change, says):
    with pytest.raises(UserError, match=says):
        change_method(OVMSE, (change,))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("offline_loss.alpha=high", "CQL's alpha (the strength α ≥ 0) is a number."),
        ("offline_loss.samples=2.5", "(joint actions drawn per step, for the form joint alone) is a whole number."),
        ("offline_loss.form=jiont", "is per_agent or joint or counterfactual. Did you mean 'joint'?"),
        (
            "explore.epsilon=lineal(0.2,0)",
            "is a schedule, such as constant(0.1) or linear(1.0, 0.1). Did you mean 'linear'",
        ),
        ("explore.epsilon=0.2", "is a schedule, such as constant(0.1) or linear(1.0, 0.1)."),
        ("offline_loss=CFQL(1.0)", "such as CQL(), SquaredError(), Imitate() or None. Did you mean 'CFCQL' or 'CQL'?"),
        ("offline_loss=CQL(alfa=3)", "is a part, such as CQL(), SquaredError(), Imitate() or None."),
        ("reinitialise_online=1", "is True or False."),
        ("memory=no", "is a function or None."),
    ],
)
def test_a_bad_value_is_told_what_fits_that_setting_and_no_list_of_parts(change, says):
    with pytest.raises(UserError, match="can't read the value") as refused:
        change_method(OVMSE, (change,))
    assert says in str(refused.value)
    assert sum(f"{name}" in str(refused.value) for name in ("TellApart", "Keep", "Guided", "Blend", "Expand")) == 0


def test_a_part_whose_types_are_for_a_type_checker_alone_can_be_changed():
    @dataclasses.dataclass(frozen=True)
    class Doubtful(CQL):
        doubt: "NotThere" = 0.0  # noqa: F821

    mine = dataclasses.replace(OVMSE, offline_loss=Doubtful())
    assert change_method(mine, ("offline_loss.doubt=0.5",)).offline_loss.doubt == 0.5


CHANGES = """
import sys
from ovmse.methods.overrides import change_method
from ovmse.core.errors import UserError
from ovmse.methods import METHODS

for change in sys.argv[1:]:
    try:
        change_method(METHODS["ovmse"], (change,))
        print(change, "is accepted")
    except UserError:
        pass
    except Exception as error:
        print(change, "ends in", repr(error))
"""


def test_values_of_another_type_are_refused():
    """In a process of its own, where nothing but the package checks types."""
    changes = ["offline_loss.alpha=high", "explore.epsilon=0.2", "online_target=3", "offline_share=0.5"]
    done = subprocess.run([sys.executable, "-c", CHANGES, *changes], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_environment_settings_from_text():
    assert parse_settings(("max_steps=60", "noise = 0.5", "map=small", "on=True")) == {
        "max_steps": 60,
        "noise": 0.5,
        "map": "small",
        "on": True,
    }
    with pytest.raises(UserError, match="name=value"):
        parse_settings(("max_steps",))


@pytest.mark.parametrize("word", ["2s3z", "3m", "3j", "2c_vs_64zg", "10gen_terran", "007", "2024-01-01"])
def test_a_word_that_begins_with_a_digit_is_text(word):
    assert parse_settings((f"map={word}",)) == {"map": word}


@pytest.mark.parametrize(("text", "number"), [("60", 60), ("1e3", 1000.0), ("0.5", 0.5), ("-2", -2)])
def test_a_number_is_a_number(text, number):
    assert parse_settings((f"x={text}",)) == {"x": number}
    with pytest.raises(UserError, match="can't read the value"):
        parse_settings(("x=f(",))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"seeds": 0}, "seeds must be greater than 0"),
        ({"online_env_steps": -5}, "online-env-steps"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"replay_env_steps": 10, "batch_episodes": 32}, "must at least hold one batch"),
    ],
)
def test_unusable_budgets_are_refused(setting, says):
    with pytest.raises(UserError, match=says):
        Config(**setting)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_configurations(name):
    config = Config(**PRESETS[name])
    assert config.evaluate_every_updates <= config.offline_updates
    assert config.evaluate_every_env_steps <= config.online_env_steps


def test_a_configuration_is_described_in_json():
    described = json.loads(json.dumps(describe(Config(out=Path("runs/one"), change=("memory=None",)))))
    assert described["type"] == "Config" and described["out"] == "runs/one"
    assert described["learner"]["hidden"] == 64 and described["change"] == ["memory=None"]
    assert describe(OVMSE)["memory"] == "ovmse.methods.targets.offline_q_tot"
