"""The search for settings: equal budgets, what is searched, stopping and going on, and what it is worth."""

import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from support.episodes import small_run, write_two_step
from support.places import ROOT

import ovmse
from ovmse.cli.main import main
from ovmse.config import Config, LearnerConfig
from ovmse.core.errors import UserError
from ovmse.core.schedules import constant, linear
from ovmse.methods import METHODS
from ovmse.methods.overrides import change_method
from ovmse.methods.signatures import LossInputs
from ovmse.stats.expected import expected_best
from ovmse.system.signals import Interrupted
from ovmse.training.display import Display
from ovmse.tuning import spaces, trials
from ovmse.tuning.results import command, expected, figure, flags_of
from ovmse.tuning.search import opened, tune
from ovmse.tuning.settings import Tuning
from ovmse.tuning.show import seconds_left
from ovmse.tuning.spaces import Range
from ovmse.tuning.trials import MethodResult, Trial

OVMSE = METHODS["ovmse"]
LEARNER = LearnerConfig()


# Expected best of k


def test_the_expected_best_of_three_by_hand():
    # pairs of 1, 2, 4: the best are 2, 4, 4
    assert expected_best(np.array([4.0, 1.0, 2.0])) == pytest.approx([7 / 3, 10 / 3, 4.0])


@pytest.mark.parametrize(
    "scores", [[0.3], [0.5, 0.5, 0.5], [0.0, 0.9, 0.2, 0.2, 0.7], [-3.0, 8.0, 1.0, -3.0, 0.0, 2.5]]
)
def test_the_expected_best_is_the_mean_over_all_subsets(scores):
    by_hand = [np.mean([max(some) for some in itertools.combinations(scores, k)]) for k in range(1, len(scores) + 1)]
    assert expected_best(np.array(scores)) == pytest.approx(by_hand, abs=1e-12)


def test_the_expected_best_of_many_is_finite_and_grows():
    curve = expected_best(np.random.default_rng(0).normal(size=400))
    assert np.isfinite(curve).all() and (np.diff(curve) >= -1e-12).all()


def test_a_failed_trial_counts_as_the_worst():
    returns = MethodResult("a", "auc", "return", (tried(0, 2.0), tried(1, None)))
    other = MethodResult("b", "auc", "return", (tried(0, -5.0), tried(1, 1.0)))
    assert expected([returns, other])[0] == pytest.approx([(2.0 - 5.0) / 2, 2.0])
    wins = MethodResult("a", "auc", "win_rate", (tried(0, 0.5), tried(1, None)))
    assert expected([wins])[0] == pytest.approx([0.25, 0.5])


# What is searched


def test_a_method_is_offered_what_it_is_made_of():
    assert list(spaces.offered(OVMSE, LEARNER)) == [
        "offline_loss.alpha", "online_target.weight.start", "online_target.weight.end", "explore.epsilon.start",
        "explore.epsilon.end", "offline_share.start", "learner.td_lambda", "learner.learning_rate",
    ]  # fmt: skip
    assert "online_target.weight.start" not in spaces.offered(METHODS["se"], LEARNER)


def test_parts_without_effect_are_not_offered():
    offline, scratch = (spaces.offered(METHODS[name], LEARNER) for name in ("offline", "scratch"))
    assert {path.partition(".")[0] for path in offline} == {"offline_loss", "learner"}
    assert {path.partition(".")[0] for path in scratch} == {"explore", "learner"}
    assert {path.partition(".")[0] for path in spaces.offered(OVMSE, LEARNER, only_online=True)} == {
        "online_target", "explore", "offline_share",
    }  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_default_lies_within_what_is_searched(name):
    method = METHODS[name]
    for path, space in spaces.offered(method, LEARNER).items():
        assert spaces.read(method, LEARNER, path) in space, f"{path} of {name}: widen {space} in TABLE"
        for value in space.values:
            spaces.put(method, LEARNER, {path: value})


@dataclass(frozen=True)
class Mine:
    """An online loss of one's own."""

    weight: float = 0.5

    def __call__(self, inputs: LossInputs):
        return self.weight * (inputs.values.q_tot - inputs.td_target) ** 2


def test_a_new_part_takes_one_line(monkeypatch):
    method = replace(METHODS["se"], online_loss=Mine())
    assert "online_loss.weight" not in spaces.offered(method, LEARNER)
    monkeypatch.setitem(spaces.TABLE, ("Mine", "weight"), spaces.uniform(0.1, 1))
    assert spaces.offered(method, LEARNER)["online_loss.weight"] == spaces.uniform(0.1, 1)


def test_what_is_off_stays_off():
    without = change_method(OVMSE, ("offline_share=constant(0)", "offline_loss.alpha=0"))
    found = spaces.offered(without, replace(LEARNER, td_lambda=0.0))
    assert "explore.epsilon.start" in found
    assert not {"offline_share.start", "offline_loss.alpha", "learner.td_lambda"} & set(found)


def test_a_constant_schedule_is_moved_as_a_whole(monkeypatch):
    method = change_method(OVMSE, ("explore.epsilon=constant(0.1)",))
    found = spaces.offered(method, LEARNER)
    assert "explore.epsilon.start" in found and "explore.epsilon.end" not in found
    moved, _ = spaces.put(method, LEARNER, {"explore.epsilon.start": 0.2})
    assert moved.explore.epsilon == constant(0.2)


def test_settings_are_put_in_place():
    settings = {"explore.epsilon.start": 0.2, "offline_loss.form": "joint", "learner.learning_rate": 0.001}
    method, learner = spaces.put(OVMSE, LEARNER, settings)
    assert method.explore.epsilon == linear(0.2, 0.02) and method.offline_loss.form == "joint"
    assert learner == replace(LEARNER, learning_rate=0.001)
    assert flags_of(tried(1, 0.0, settings)) == [
        "--change", "explore.epsilon.start=0.2", "--change", "offline_loss.form=joint", "--learning-rate", "0.001",
    ]  # fmt: skip


def test_spaces_of_ones_own_are_read():
    assert spaces.parse("offline_loss.alpha=log(0.1,10)") == ("offline_loss.alpha", Range("log", (0.1, 10)))
    assert spaces.parse(" learner.hidden = choice(32, 64)") == ("learner.hidden", Range("choice", (32, 64)))
    assert spaces.parse("a.form=choice(joint,'per_agent',None)")[1].values == ("joint", "per_agent", None)
    assert spaces.parse("a.samples=integer(2,20)")[1].values == (2, 20)
    found = spaces.chosen(("explore.epsilon.start=uniform(0.1,0.4)",), METHODS["offline"], LEARNER)
    assert found == {}  # it plays nothing online


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "a space reads path="),
        ("alpha=normal(0,1)", "a space reads path="),
        ("alpha=log(0,1)", "above 0"),
        ("alpha=uniform(2,1)", "less than"),
        ("alpha=uniform(1)", "two numbers"),
        ("alpha=integer(1,2.5)", "two whole numbers"),
        ("alpha=uniform(a,b)", "two numbers"),
        ("alpha=choice(1)", "two values"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        spaces.parse(text)


def test_bounds_that_are_no_values_of_the_setting_are_refused():
    with pytest.raises(UserError, match=r"explore.epsilon.start=uniform\(0.1, 2\).*between 0"):
        spaces.chosen(("explore.epsilon.start=uniform(0.1,2)",), OVMSE, LEARNER)
    with pytest.raises(UserError, match="learning-rate must be greater"):
        spaces.chosen(("learner.learning_rate=uniform(-1,1)",), OVMSE, LEARNER)
    with pytest.raises(UserError, match="0 or more"):
        spaces.chosen(("offline_loss.alpha=choice(1.0,-1.0)",), OVMSE, LEARNER)


def test_the_table_is_printed_in_the_docs():
    page = (ROOT / "docs" / "tuning.md").read_text()
    missing = [line for line in spaces.markdown().splitlines() if line not in page]
    assert not missing, "docs/tuning.md lacks these rows:\n" + "\n".join(missing)


# The time left


def test_the_time_left_follows_the_last_trial_of_each_method():
    ended = [("a", 100.0), ("b", 50.0), ("a", 20.0)]
    assert seconds_left(ended, ["a", "b"], ("b", 10.0, 0.1)) == pytest.approx(40 + 20 + 50)
    assert seconds_left([], ["b"], ("a", 10.0, 0.25)) == pytest.approx(30 + 40)
    assert seconds_left([], ["a"], ("a", 0.0, 0.0)) is None
    assert seconds_left([("a", 5.0)], [], ("a", 9.0, 0.5)) == 0.0


# The search, with runs that only write what a run writes


def tried(number, score, settings=None):
    return Trial(number, settings or {}, score, "win_rate", "" if score is not None else "nan", 10, 20, 1.0, False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step")


def search(out, data, methods=("ovmse", "finetune"), **changes):
    small = vars(small_run(None, seeds=2)) | {"data": data, "out": out, "seed": 1000}
    small |= {"methods": methods, "trials": 3, "method": "", "change": ()}
    return Tuning(**(small | changes))


class Killed(BaseException):
    """The process ends here."""


class Runs:
    """Stands for training: higher ε scores more, online is 0.2 below the end; `trouble` is raised once at its call.

    As training does, it writes config.json when it begins and summary.json when it ends; `Killed` comes before both.
    """

    def __init__(self):
        self.configs, self.resumed, self.trouble = [], [], {}

    def __call__(self, config: Config, display: Display, resume: bool = False):
        self.configs.append(config)
        self.resumed.append(resume)
        assert resume or not config.out.exists()
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "half").write_text("written")
        trouble = self.trouble.pop(len(self.configs) - 1, None)
        if not isinstance(trouble, Killed):
            (config.out / "config.json").write_text('{"type": "Config"}')
        if trouble is not None:
            raise trouble
        method = change_method(ovmse.methods.find(config.method), config.change)
        (config.out / "offline.safetensors").touch()
        score, rows = float(method.explore.epsilon.start) + 0.2, []
        for seed in range(config.seed, config.seed + config.seeds):
            rows += [row("offline", seed, config.offline_updates, 0, 0.1)]
            if method.online_target is not None:
                rows += [row("online", seed, config.offline_updates, 0, score - 0.2)]
                rows += [row("online", seed, config.offline_updates + 16, config.online_env_steps, score)]
        (config.out / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (config.out / "summary.json").write_text("{}")

    @property
    def places(self):
        return [f"{config.out.parent.name}/{config.out.name}" for config in self.configs]


def row(phase, seed, updates, env_steps, score):
    return {
        "phase": phase, "seed": seed, "updates": updates, "env_steps": env_steps, "win_rate": score, "return": score,
        "wall_s": 1.0,
    }  # fmt: skip


@pytest.fixture
def runs(monkeypatch):
    found = Runs()
    monkeypatch.setattr(trials, "train", found)
    return found


def test_every_method_gets_the_same_budget(tmp_path, data, runs):
    found = tune(search(tmp_path / "s", data, ("ovmse", "finetune", "offline")))
    assert runs.places == [f"{name}/trial-0{n}" for n in range(3) for name in ("ovmse", "finetune", "offline")]
    assert len({(c.seed, c.seeds, c.offline_updates, c.online_env_steps, c.env, c.data) for c in runs.configs}) == 1
    assert runs.configs[0].seed == 1000
    assert [len(one.trials) for one in found] == [3, 3, 3]
    assert [one.measure for one in found] == ["auc", "auc", "final"]


def test_trial_0_is_the_method_as_it_is(tmp_path, data, runs):
    tuning = search(tmp_path / "s", data)
    tune(tuning)
    for config in runs.configs[:2]:
        assert config.change == () and config.learner == tuning.learner and config.pretrained is None
    for config in runs.configs[2:]:
        assert {c.partition("=")[0] for c in config.change} > {"offline_loss.alpha", "explore.epsilon.end"}
        assert config.learner.learning_rate != tuning.learner.learning_rate


def test_the_score_is_what_the_report_says(tmp_path, data, runs):
    [auc] = tune(search(tmp_path / "auc", data, ("ovmse",)))
    [final] = tune(search(tmp_path / "final", data, ("ovmse",), score="final"))
    assert auc.default.score == pytest.approx(0.2) and final.default.score == pytest.approx(0.3)  # ε starts at 0.3
    assert auc.best == max(auc.trials, key=lambda trial: trial.score)
    assert auc.default.updates == 2 * (40 + 16) and auc.default.env_steps == 2 * 64


def test_the_default_wins_where_nothing_is_better(tmp_path, data, runs):
    [found] = tune(search(tmp_path / "s", data, ("ovmse",), space=("explore.epsilon.start=uniform(0.01,0.09)",)))
    assert found.best.number == 0 and found.best.settings == {}
    assert "| the defaults |" in (tmp_path / "s" / "tuning.md").read_text()


@pytest.mark.parametrize(
    "trouble",
    [Killed(), Interrupted(Path("x"), "the same command again"), KeyboardInterrupt()],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.slow
def test_a_stopped_search_ends_as_one_that_was_not(tmp_path, data, runs, trouble, at, monkeypatch):
    whole = tune(search(tmp_path / "whole", data))
    monkeypatch.setattr("optuna.storages.journal._storage.pickle", None)  # nothing unpickles
    begun = len(runs.configs)
    runs.trouble[begun + at] = trouble
    with pytest.raises(Killed if isinstance(trouble, Killed) else Interrupted) as stop:
        tune(search(tmp_path / "again", data))
    if not isinstance(trouble, Killed):
        assert "same command again" in str(stop.value)
    again = tune(search(tmp_path / "again", data))
    assert len(runs.configs) == begun + 6 + 1  # one was begun twice
    assert runs.resumed[begun + at + 1] != isinstance(trouble, Killed)
    for a, b in zip(whole, again, strict=True):
        assert [t.settings for t in a.trials] == [t.settings for t in b.trials]
        assert [t.score for t in a.trials] == [t.score for t in b.trials]
    tune(search(tmp_path / "again", data))
    assert len(runs.configs) == begun + 7  # it was over


def test_a_kill_between_the_record_and_the_journal_costs_nothing(tmp_path, data, runs):
    tune(search(tmp_path / "s", data, ("ovmse",)))
    journal = tmp_path / "s" / "search.journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # the last trial was not told; a line is cut off
    [found] = tune(search(tmp_path / "s", data, ("ovmse",)))
    assert len(runs.configs) == 3 and len(found.trials) == 3


def test_a_failed_trial_counts_and_says_why(tmp_path, data, runs):
    runs.trouble = {1: UserError("the loss of seed 1000 is no longer a number")}
    [found] = tune(search(tmp_path / "s", data, ("ovmse",)))
    assert [trial.score is None for trial in found.trials] == [False, True, False]
    assert "no longer a number" in found.trials[1].reason
    assert "no longer a number" in (tmp_path / "s" / "tuning.md").read_text()
    tune(search(tmp_path / "s", data, ("ovmse",)))
    assert len(runs.configs) == 3


def test_a_search_in_which_all_failed_is_still_written(tmp_path, data, runs):
    runs.trouble = {n: UserError("diverged") for n in range(3)}
    [found] = tune(search(tmp_path / "s", data, ("ovmse",)))
    assert found.best is None
    assert json.loads((tmp_path / "s" / "tuning.json").read_text())["methods"][0]["expected_best"] is None


def test_the_offline_phase_is_shared_where_nothing_of_it_is_searched(tmp_path, data, runs):
    [found] = tune(search(tmp_path / "s", data, ("ovmse",), only_online=True))
    first = tmp_path / "s" / "ovmse" / "trial-00"
    assert [config.pretrained for config in runs.configs] == [None, first, first]
    assert [trial.shared for trial in found.trials] == [False, True, True]
    assert [trial.updates for trial in found.trials] == [2 * 56, 2 * 16, 2 * 16]


@pytest.mark.parametrize("path", ["offline_loss.alpha=log(0.1,10)", "learner.gamma=uniform(0.9,0.99)"])
def test_the_offline_phase_is_not_shared_where_it_is_searched(tmp_path, data, runs, path):
    tune(search(tmp_path / "s", data, ("ovmse",), space=(path, "explore.epsilon.start=uniform(0.1,0.5)")))
    assert [config.pretrained for config in runs.configs] == [None] * 3


def test_another_search_in_the_same_place_is_refused(tmp_path, data, runs):
    tune(search(tmp_path / "s", data, ("ovmse",)))
    with pytest.raises(UserError, match="trials 3 there, 4 here"):
        tune(search(tmp_path / "s", data, ("ovmse",), trials=4))
    with pytest.raises(UserError, match="online_env_steps 64 there, 128 here"):
        tune(search(tmp_path / "s", data, ("ovmse",), online_env_steps=128))
    with pytest.raises(UserError, match="holds no search"):
        tune(search(tmp_path / "s" / "ovmse", data, ("ovmse",)))
    assert len(runs.configs) == 3


def test_a_search_under_way_is_left_alone(tmp_path):
    with opened(tmp_path / "s", {"trials": 1}):  # noqa: SIM117
        with (
            pytest.raises(UserError, match=r"in use by process \d+ on .*, since"),
            opened(tmp_path / "s", {"trials": 1}),
        ):
            pass
    with opened(tmp_path / "s", {"trials": 1}):
        pass


def test_bad_input_is_refused_before_anything_is_written(tmp_path, data, runs):
    for changes, message in [
        ({"methods": ()}, "name the methods"),
        ({"methods": ("ovms",)}, "Did you mean 'ovms"),
        ({"change": ("offline_loss.alpha=-1",)}, "0 or more"),
        ({"trials": 0}, "trials must be greater"),
        ({"space": ("explore.epsilom.start=uniform(0.1,0.2)",)}, "Did you mean 'epsilon'"),
        ({"methods": ("offline",), "space": ("explore.epsilon.start=uniform(0.1,0.2)",)}, "no effect on offline"),
        ({"methods": ("ovmse", "offline"), "space": ("explore.epsilon.start=log(0.1,0.2)",)}, "nothing to tune"),
        ({"space": ("learner.learning_rates=log(0.1,0.2)",)}, "learning_rates"),
        ({"methods": ("offline",), "only_online": True}, "nothing to tune"),
        ({"space": ("offline_loss.alpha=log(0.1,1)",), "only_online": True}, "matters offline"),
    ]:
        with pytest.raises(UserError, match=message):
            tune(search(tmp_path / "s", data, **changes))
    for out, logs, message in [(None, data, "--out"), (tmp_path / "s", None, "learns from data")]:
        with pytest.raises(UserError, match=message):
            tune(search(out, logs))
    assert not (tmp_path / "s").exists() and not runs.configs


def test_without_optuna_it_says_what_to_install(tmp_path, data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'ovmse\[tune\]'"):
        tune(search(tmp_path / "s", data))


def test_the_command_says_what_to_do_next(tmp_path, data, runs, capsys):
    sizes = ["--env", "matrix:two_step", "--data", data, "--seeds", "2", "--offline-updates", "40"]
    words = ["tune", "ovmse", "se", *sizes, "--trials", "2", "--out", str(tmp_path / "s")]
    assert main([*words, "--space", "explore.epsilon.start=uniform(0.5,0.9)"]) == 0
    said = capsys.readouterr().out
    assert "ovmse trial-01 (2 of 2): " in said
    [line] = [line for line in said.splitlines() if line.startswith("Next: ovmse train") and "--method se" in line]
    assert "Best of se (trial-01): --change explore.epsilon.start=0." in said
    assert "--change explore.epsilon.start=0." in line and "--seed 0 --seeds 5" in line
    for name in ("tuning.md", "tuning.json", "eop.png", "eop.svg"):
        assert (tmp_path / "s" / name).stat().st_size > 0
    assert main([*words]) == 2
    assert "holds a search with other settings" in capsys.readouterr().err


def test_the_next_command_repeats_what_the_search_was_given(tmp_path):
    base = {
        "out": tmp_path,
        "methods": ("se",),
        "env": "matrix:climbing",
        "data": "my data",
        "change": ("memory=None",),
    }
    learner = replace(LEARNER, hidden=8, td_lambda=0.0)
    tuning = Tuning(**base, learner=learner, seeds=3, keep_teams=True)
    found = MethodResult("se", "auc", "return", (tried(0, 0.1), tried(1, 0.2, {"learner.td_lambda": 0.5})))
    assert command(tuning, found) == (
        "ovmse train --env matrix:climbing --method se --data 'my data' --keep-teams --hidden 8 --change memory=None "
        "--seed 0 --seeds 5 --td-lambda 0.5"
    )
    assert "--seed 5" in command(replace(tuning, seed=2), found)  # not on seeds 2 to 4


def test_the_figure_has_a_line_and_a_diamond_per_method():
    found = [
        MethodResult("a", "auc", "win_rate", tuple(tried(n, n / 4) for n in range(4))),
        MethodResult("b", "final", "win_rate", (tried(0, None), tried(1, 0.5))),
        MethodResult("c", "auc", "win_rate", (tried(0, None),)),
    ]
    [axes] = figure(found, expected(found)).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert [line.get_label() for line in curves] == ["a", "b (final score)"]
    assert curves[0].get_ydata()[-1] == 0.75
    [diamond] = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert diamond.get_ydata()[0] == 0.0


# The search, with real runs


@pytest.mark.slow
@pytest.mark.usefixtures("one_length")
def test_real_trials_share_the_offline_phase(tmp_path, data):
    [found] = tune(search(tmp_path / "s", data, ("finetune",), trials=2, seeds=1, only_online=True))
    first, second = (tmp_path / "s" / "finetune" / f"trial-0{n}" for n in range(2))
    assert (first / "offline.safetensors").read_bytes() == (second / "offline.safetensors").read_bytes()
    assert [trial.shared for trial in found.trials] == [False, True]
    assert found.trials[1].updates == found.trials[0].updates - 40
    assert all(trial.score is not None and math.isfinite(trial.score) for trial in found.trials)
    assert "explore.epsilon.start" in json.loads((second / "trial.json").read_text())["settings"]
