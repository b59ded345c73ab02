"""The search: for every trial, every method in turn; what was tried is kept, so that a stopped search goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from ovmse import methods
from ovmse.config import NO_ENV
from ovmse.core.errors import UserError
from ovmse.core.settings import describe, differences
from ovmse.methods.overrides import change_method
from ovmse.system import files, jax_setup, lock
from ovmse.system.signals import Interrupted
from ovmse.training.choose_env import with_env
from ovmse.tuning import spaces, trials
from ovmse.tuning.results import write
from ovmse.tuning.settings import Tuning
from ovmse.tuning.show import SearchDisplay
from ovmse.tuning.spaces import Range
from ovmse.tuning.trials import MethodResult, SearchSpec, Trial

SETTINGS, JOURNAL = "settings.json", "search.journal"
DIGITS = 4  # significant ones of a proposed number, so that what is printed is what was run


def tune(tuning: Tuning, console: Console | None = None) -> tuple[MethodResult, ...]:
    """Search good settings for every method on an equal budget, and write ``tuning.md``, ``.json`` and ``eop.png``.

    The same call on the same directory goes on with a search that was stopped. Raises `UserError` on bad input, where
    the directory holds another search, or where optuna is not installed; `Interrupted` after Ctrl-C.
    """
    optuna = get_optuna()
    jax_setup.use()
    tuning = with_env(tuning)
    if tuning.env == NO_ENV:
        raise UserError(
            "a search goes by the scores of play, and nothing can be played here: give --env. Runs that learned from a "
            "log alone are ranked by `ovmse select`."
        )
    plans = make_plans(tuning)
    assert tuning.out is not None
    display = SearchDisplay(console, tuning, plans)
    with opened(tuning.out, settings_of(tuning, plans)), display.bar:
        studies = [open_study(optuna, tuning, plan) for plan in plans]
        done: dict[str, list[Trial]] = {plan.name: [] for plan in plans}
        try:
            for number in range(tuning.trials):
                for plan, study in zip(plans, studies, strict=True):
                    trial = take(optuna, tuning, plan, study, number, display)
                    done[plan.name].append(trial)
        except (Interrupted, KeyboardInterrupt) as stop:
            raise Interrupted(tuning.out, "the same command again", getattr(stop, "code", 130)) from stop
    found = tuple(MethodResult(p.name, p.measure, name_of(done[p.name]), tuple(done[p.name])) for p in plans)
    write(tuning, plans, found)
    return found


def get_optuna() -> Any:
    """The optional library that proposes settings."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend  # noqa: F401
    except ImportError as error:
        raise UserError(f"tuning needs optuna ({error}). Install it with: pip install 'ovmse[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def make_plans(tuning: Tuning) -> list[SearchSpec]:
    """What is tuned, by method. Raises `UserError` on bad input, before anything is written."""
    if tuning.out is None:
        raise UserError("give the directory of the search: --out DIR.")
    names = list(dict.fromkeys(tuning.methods))
    if not names:
        raise UserError("name the methods to tune, such as: ovmse tune ovmse finetune --out DIR.")
    check_paths(tuning, names)
    plans = [trials.plan(tuning, name) for name in names]
    if len({plan.folder for plan in plans}) < len(plans):
        raise UserError(f"two of the methods {', '.join(names)} would share one directory; rename one.")
    return plans


def check_paths(tuning: Tuning, names: list[str]) -> None:
    """Raise `UserError` for a space that none of the methods has."""
    values = [change_method(methods.find(name), tuning.change) for name in names]
    for path, space in map(spaces.parse, tuning.space):
        if not any(spaces.has(value, tuning.learner, path) for value in values):
            try:
                spaces.put(values[0], tuning.learner, {path: space.values[0]})  # names what is near
            except (UserError, TypeError) as error:
                raise UserError(f"--space {path}: {error}") from error
            raise UserError(f"--space {path}: it has no effect on {', '.join(names)}.")


def settings_of(tuning: Tuning, plans: list[SearchSpec]) -> dict[str, Any]:
    """Everything that decides what a search tries, as JSON."""
    whole = describe(tuning) | {"out": None}
    whole["tuned"] = {
        plan.name: {"value": describe(plan.value), "space": {k: str(v) for k, v in plan.space.items()}}
        for plan in plans
    }
    return dict(json.loads(json.dumps(whole)))


@contextmanager
def opened(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """A search's directory, new or gone on with, for this process alone.

    Raises `UserError` where it holds something else, another search, or one that is under way.
    """
    path = out / SETTINGS
    if out.is_dir():
        files.check_tree(out)
    there = files.read_json(path)
    if there is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is in use, and holds no search: choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
        files.write_json(path, settings)
    elif differ := differences(there, settings):
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"{out} holds a search with other settings: {'; '.join(differ[:3])}{more}. Choose another --out, or go on "
            "with that search by giving its settings."
        )
    with lock.held(out):
        yield


def open_study(optuna: Any, tuning: Tuning, plan: SearchSpec) -> Any:
    """The record of what was proposed for a method: lines of JSON in one file for all methods."""
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    assert tuning.out is not None
    path = tuning.out / JOURNAL
    if path.exists() and not (held := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(held[: held.rfind(b"\n") + 1])  # a last line that was cut off
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(storage=storage, study_name=plan.name, direction="maximize", load_if_exists=True)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}); the trials beside it are whole. Choose another --out."
        ) from error


def take(optuna: Any, tuning: Tuning, plan: SearchSpec, study: Any, number: int, display: SearchDisplay) -> Trial:
    """A trial that ended earlier, or else one that is run now, to its end."""
    known = study.get_trials(deepcopy=False)
    trial, record = known[number] if number < len(known) else None, trials.recorded(plan, number)
    if trial is not None and trial.state.is_finished():
        if record is None:
            raise UserError(f"{trials.place(plan, number) / trials.RECORD} is missing: choose another --out.")
        display.known(plan, record)
        return record
    study.sampler = sampler(optuna, tuning, number)
    if trial is None or trial.state == optuna.trial.TrialState.WAITING:
        if number == 0:
            study.enqueue_trial(defaults(tuning, plan), skip_if_exists=True)
        asked = study.ask()
    else:
        asked = optuna.trial.Trial(study, trial._trial_id)  # proposed to a process that was killed
    settings = proposed(tuning, plan, asked, number)
    if record is None:
        display.begin_trial(plan, number)
        record = trials.run(tuning, plan, number, settings, display)
    display.ended(plan, record)
    state = optuna.trial.TrialState.FAIL if record.score is None else None
    study.tell(number, record.score, state=state)
    return record


def sampler(optuna: Any, tuning: Tuning, number: int) -> Any:
    """Who proposes trial `number`: seeded by it, so that a search that was stopped ends as one that was not."""
    seed = tuning.seed + number
    if tuning.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, tuning.trials // 2))


def defaults(tuning: Tuning, plan: SearchSpec) -> dict[str, Any]:
    """The settings of trial 0: those of the method, where they lie within what is searched."""
    now = {path: spaces.read(plan.value, tuning.learner, path) for path in plan.space}
    return {path: value for path, value in now.items() if value in plan.space[path]}


def proposed(tuning: Tuning, plan: SearchSpec, asked: Any, number: int) -> dict[str, Any]:
    """The settings of a trial, by path; none in trial 0, which is the method as it is."""
    if number == 0:
        for path in defaults(tuning, plan):
            suggest(asked, path, plan.space[path])
        return {}
    return {path: suggest(asked, path, space) for path, space in plan.space.items()}


def suggest(asked: Any, path: str, space: Range) -> Any:
    """A value of the range; where this trial has one already, the same again."""
    if space.kind == "choice":
        return asked.suggest_categorical(path, space.values)
    low, high = space.values
    if space.kind == "integer":
        return asked.suggest_int(path, low, high)
    value = asked.suggest_float(path, low, high, log=space.kind == "log")
    return min(high, max(low, float(f"{value:.{DIGITS}g}")))


def name_of(done: list[Trial]) -> str:
    """Which score a method's trials were judged by."""
    return next((trial.score_name for trial in done if trial.score_name), "return")
