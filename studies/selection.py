"""How well does a log alone order teams? Estimates against the greedy scores that training recorded anyway.

    python studies/selection.py --out runs/selection-3m

Offline methods are trained for few updates each, two seeds, with the teams kept on the way: policies from untrained to
good. `ovmse select` ranks them by the same log; the rank correlations and the regret of its first choice are printed,
over all teams and without the untrained ones. Runs and selections that are there already are not done again.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import ovmse
from ovmse.ope.settings import SCORES
from ovmse.ope.write import TRUE_COLUMNS
from ovmse.stats import ranking
from ovmse.training.display import Display


@dataclass(frozen=True)
class Study:
    """What to train and to rank."""

    out: Path
    """the directory of the runs and of the selections"""
    env: str = "smax:3m"
    """the environment"""
    data: str = "smax-3m-medium"
    """the dataset that teams are trained on, and judged by"""
    methods: tuple[str, ...] = ("bc", "offline", "icq", "iql", "omiga", "cfcql")
    """offline objectives"""
    seeds: int = 2
    """teams of each method"""
    train_updates: int = 900
    """gradient updates of training; a third of it between two checkpoints"""
    updates: int = 600
    """gradient updates of every fit"""


def main(study: tyro.conf.OmitArgPrefixes[Study]) -> None:
    """Train, select, and compare with what the runs recorded."""
    console = Console()
    runs = tuple(study.out / method for method in study.methods)
    for run in runs:
        if not (run / "summary.json").exists():
            ovmse.train(training(study, run), Display(console))
    out = study.out / "selection"
    if not (out / "selection.json").exists():
        settings = {"data": study.data, "updates": study.updates, "truth": True, "out": out}
        ovmse.select(ovmse.Selecting(runs=runs, **settings), Display(console))
    teams = [team for team in json.loads((out / "selection.json").read_text())["teams"] if team["recorded"]]
    for what, some in (("all", teams), ("trained", [team for team in teams if team["updates"] > 0])):
        console.print(table(f"{what}, {len(some)} teams", some))


def training(study: Study, run: Path) -> ovmse.Config:
    """One method's run: the offline phase alone, its teams kept."""
    return ovmse.Config(
        env=study.env,
        data=study.data,
        method=run.name,
        change=("online_target=None",),
        seeds=study.seeds,
        offline_updates=study.train_updates,
        evaluate_every_updates=study.train_updates // 3,
        keep_teams=True,
        out=run,
    )


def table(title: str, teams: list[dict]) -> Table:
    """How the columns order teams by their recorded scores."""
    shown = Table(*TRUE_COLUMNS, title=title)
    truths = [name for name in ("win_rate", "return") if teams[0]["recorded"][name] is not None]
    for score in SCORES:
        for truth in truths:
            known = [team for team in teams if team[score] is not None]
            if len(known) < 2:
                continue
            x, y = (np.array(values) for values in zip(*((t[score], t["recorded"][truth]) for t in known), strict=True))
            best = max(team["recorded"][truth] for team in teams)
            found = ranking.spearman(x, y), ranking.kendall(x, y), ranking.regret_at_1(x, y, best)
            cells = ("–" if number is None else f"{number:.2f}" for number in found)
            shown.add_row(score, truth, str(len(known)), *cells)
    return shown


if __name__ == "__main__":
    tyro.cli(main)
