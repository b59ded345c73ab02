"""Every method on one dataset, each tuned on the same budget, then judged on seeds that the search has not seen.

    python studies/every_method.py --out runs/every-method

Each method gets the same trials (its defaults and settings drawn at random), each of the same length, on the same
seeds; the best settings are then trained anew. What is searched is a method's own: the learning rate and TD(λ) stay as
they are for all, except for a method that has nothing else. Name methods to run some of them: processes side by side,
with other methods each, may share one ``--out``, and the last command writes the table of all that is there.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

import ovmse
from ovmse.config import LearnerConfig
from ovmse.methods import METHODS
from ovmse.report.compare import compare
from ovmse.runs.checkpoints import is_unfinished
from ovmse.training.display import Display
from ovmse.tuning import spaces
from ovmse.tuning.results import flags_of
from ovmse.tuning.trials import Trial


@dataclass(frozen=True)
class Study:
    """One map and dataset."""

    methods: tyro.conf.Positional[tuple[str, ...]] = ()
    """the methods; by default all"""
    env: str = "smax:3m"
    """the environment"""
    data: str = "smax-3m-medium"
    """the dataset"""
    seeds: int = 3
    """seeds of the runs that are reported, from 0"""
    offline_updates: int = 1_500
    """gradient updates of the offline phase"""
    online_env_steps: int = 15_000
    """environment steps of the online phase, per seed"""
    trials: int = 3
    """trials per method; the first one has the method's defaults"""
    trial_seeds: int = 2
    """seeds of a trial, from 1000"""
    trial_online_env_steps: int = 7_500
    """environment steps of a trial's online phase, per seed"""
    out: Path = Path("runs/every-method")
    """where the runs go"""


def main(study: Study) -> None:
    """Run what is not there yet, then compare all that is."""
    console = Console()
    for method in study.methods or tuple(METHODS):
        out = study.out / method
        if not (out / "summary.json").exists():
            best = tuned(study, method, console)
            again = is_unfinished(out)
            ovmse.train(chosen(study, method, best), Display(console), resume=again)
            console.print(f"{method}: {' '.join(flags_of(best)) or 'the defaults'}", highlight=False)
    runs = [study.out / method for method in METHODS if (study.out / method / "summary.json").exists()]
    runs.sort(key=lambda run: run.name != "finetune")  # which the others are compared with
    compare(runs, study.out / "comparison", console)


def tuned(study: Study, method: str, console: Console) -> Trial:
    """The best trial of a method."""
    [found] = ovmse.tune(
        ovmse.Tuning(
            methods=(method,),
            env=study.env,
            data=study.data,
            trials=study.trials,
            sampler="random",
            seeds=study.trial_seeds,
            offline_updates=study.offline_updates,
            evaluate_every_updates=study.offline_updates,
            online_env_steps=study.trial_online_env_steps,
            evaluate_every_env_steps=2_500,
            evaluate_episodes=256,
            space=own_space(method),
            out=study.out / "tuning" / method,
        ),
        console,
    )
    if found.best is None:
        raise SystemExit(f"all trials of {method} failed: {found.trials[0].reason}")
    return found.best


def own_space(method: str) -> tuple[str, ...]:
    """What is searched of a method; empty, and so all that there is, where the method has no settings of its own."""
    offered = spaces.offered(METHODS[method], LearnerConfig())
    return tuple(f"{path}={space}" for path, space in offered.items() if not path.startswith("learner."))


def chosen(study: Study, method: str, best: Trial) -> ovmse.Config:
    """The run that is reported."""
    base = ovmse.Config(
        method=method,
        env=study.env,
        data=study.data,
        seeds=study.seeds,
        offline_updates=study.offline_updates,
        evaluate_every_updates=500,
        online_env_steps=study.online_env_steps,
        evaluate_every_env_steps=2_500,
        evaluate_episodes=256,
        out=study.out / method,
    )
    own = {path.removeprefix("learner."): x for path, x in best.settings.items() if path.startswith("learner.")}
    return dataclasses.replace(
        base, learner=dataclasses.replace(base.learner, **own), change=tuple(spaces.changes(best.settings))
    )


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
