"""One trial: an ordinary run with some settings put in place, its score, and what it cost."""

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovmse import methods
from ovmse.analysis.results import summarise_run
from ovmse.config import Config
from ovmse.core.errors import Unwritable, UserError
from ovmse.methods.method import Method
from ovmse.methods.overrides import change_method
from ovmse.runs import checkpoints
from ovmse.runs.checkpoints import Inexact, is_unfinished
from ovmse.runs.directory import slug
from ovmse.runs.metrics_file import checked_rows, load_run
from ovmse.system import files
from ovmse.training.display import Display
from ovmse.training.setup import setup
from ovmse.training.train import train
from ovmse.tuning import spaces
from ovmse.tuning.settings import Tuning
from ovmse.tuning.spaces import Range

RECORD = "trial.json"


@dataclass(frozen=True)
class SearchSpec:
    """What is tuned of one method. value: the method as it is by default; space: its settings, by path."""

    name: str
    value: Method
    space: dict[str, Range]
    measure: str
    folder: Path


@dataclass(frozen=True)
class Trial:
    """A trial that ended. score: None where it failed, for `reason`.

    settings: by path; empty in trial 0, the defaults. updates, env_steps: gradient updates and online environment steps
    that it cost, all seeds together; wall_s: seconds; shared: whether it took over the offline phase of trial 0.
    """

    number: int
    settings: dict[str, Any]
    score: float | None
    score_name: str
    reason: str
    updates: int
    env_steps: int
    wall_s: float
    shared: bool


@dataclass(frozen=True)
class MethodResult:
    """What a search found for one method. measure: ``auc`` or ``final``; score_name: ``win_rate`` or ``return``."""

    method: str
    measure: str
    score_name: str
    trials: tuple[Trial, ...]

    @property
    def default(self) -> Trial:
        """The method as it is by default."""
        return self.trials[0]

    @property
    def best(self) -> Trial | None:
        """The trial with the highest score, the earliest of equals; None if all failed."""
        ranked = [(trial.score, -trial.number, trial) for trial in self.trials if trial.score is not None]
        return max(ranked)[-1] if ranked else None


def plan(tuning: Tuning, name: str) -> SearchSpec:
    """What is tuned of the method `name`. Raises `UserError` where there is nothing, or the run can't be."""
    assert tuning.out is not None
    value = change_method(methods.find(name), tuning.change)
    learner = tuning.learner
    if tuning.space:
        space = spaces.chosen(tuning.space, value, learner)
        offline = [path for path in space if not spaces.is_online(path)]
        if tuning.only_online and offline:
            raise UserError(f"--space {offline[0]} matters offline, too: leave out --only-online.")
    else:
        space = spaces.offered(value, learner, tuning.only_online)
    if not space:
        raise UserError(
            f"the method {name!r} has nothing to tune here: add a --space for one of its settings, or leave it out."
        )
    setup(tuning.trial(name))
    measure = tuning.score if value.online_target is not None else "final"
    return SearchSpec(name, value, space, measure, tuning.out / slug(name))


def place(plan: SearchSpec, number: int) -> Path:
    """The directory of a trial."""
    return plan.folder / f"trial-{number:02d}"


def configure(tuning: Tuning, plan: SearchSpec, number: int, settings: dict[str, Any]) -> Config:
    """The run of a trial; it takes over the offline phase of trial 0 where nothing that this phase reads differs."""
    first = place(plan, 0)
    shares = number > 0 and plan.value.offline_loss is not None and all(map(spaces.is_online, settings))
    return tuning.trial(
        plan.name,
        learner=spaces.put(plan.value, tuning.learner, settings)[1],
        change=(*tuning.change, *spaces.changes(settings)),
        out=place(plan, number),
        pretrained=first if shares and (first / "offline.safetensors").is_file() else None,
    )


def run(tuning: Tuning, plan: SearchSpec, number: int, settings: dict[str, Any], display: Display) -> Trial:
    """Run a trial, or go on with one that was stopped, and write down how it ended.

    A run that raises `UserError` (its loss is no longer a number, its settings don't go together) is a failed trial.
    """
    out, began, reason, score, score_name = place(plan, number), time.monotonic(), "", None, ""
    stopped = is_unfinished(out)
    if out.exists() and not stopped:
        shutil.rmtree(out)  # cut off before it began, or before it was written down
    shared = False
    try:
        config = configure(tuning, plan, number, settings)
        shared = config.pretrained is not None
        try:
            train(config, display, resume=stopped)
        except Inexact:
            shutil.rmtree(out)  # the trial has to be one run of one machine
            train(config, display)
        shutil.rmtree(out / checkpoints.FOLDER, ignore_errors=True)  # many trials, and none is trained for longer
        score, score_name = judged(out, plan.measure)
    except Unwritable:
        raise  # no fault of the trial's
    except UserError as error:
        reason = str(error)
    updates, env_steps, wall_s = spent(out)
    if shared:
        updates -= min(updates, tuning.seeds * tuning.offline_updates)
    wall_s = max(wall_s, time.monotonic() - began)
    trial = Trial(number, settings, score, score_name, reason, updates, env_steps, round(wall_s, 3), shared)
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / RECORD, dataclasses.asdict(trial))
    return trial


def judged(out: Path, measure: str) -> tuple[float, str]:
    """A run's score as its report has it (``auc`` or ``final``, interquartile mean over seeds), and what it measures.

    Raises `UserError` where there is no finite score.
    """
    found = summarise_run(load_run(out))
    estimate = found.auc if measure == "auc" else found.final
    if estimate is None:
        raise UserError(f"{out / 'metrics.jsonl'}: no finite score in the online phase.")
    return estimate.value, found.score


def spent(out: Path) -> tuple[int, int, float]:
    """(gradient updates, online environment steps, seconds) up to a run's last evaluation, all seeds together."""
    if not (out / "metrics.jsonl").is_file():
        return 0, 0, 0.0
    last = {row["seed"]: row for row in checked_rows(out / "metrics.jsonl")}.values()
    updates, env_steps = (sum(row[name] for row in last) for name in ("updates", "env_steps"))
    return updates, env_steps, max((row.get("wall_s") or 0.0 for row in last), default=0.0)


def recorded(plan: SearchSpec, number: int) -> Trial | None:
    """A trial that ended earlier; None if it did not."""
    return files.read_json(place(plan, number) / RECORD, Trial)
