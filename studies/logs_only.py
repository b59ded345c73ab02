"""Logs alone: what do three rounds earn in the plant, and does the verdict keep a team that is worse from work?

    python studies/logs_only.py runs/logs-only

Of each seed: the rules' log of 300 shifts (examples/fleet.py), a team trained on it without an environment, and three
rounds, each on 200 shifts that the deployed team brought back at ε = 0.2. Two arms: with the acceptance test, and
without (`VERDICTS`). The plant is used by the process in which an exported team plays, and
for the returns that are written down; no setting follows from these.

Asked before the runs: (1) Is the team that is deployed after three rounds better than the first one? (2) In how many
rounds did the team that is to be deployed lose more than the margin, 5 % of what the log earned, with the test and
without? With it none in twenty is what was promised. (3) How often did it keep a team away that was better?
A round counts as a loss where the mean over 200 shifts, the same arrivals for both teams, is lower by more than the
margin. Outcome: docs/logs-only.md. What is there already is not done again.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tables
import tyro
from matplotlib.figure import Figure

from ovmse.analysis.agreement import discounted_returns
from ovmse.cli.main import main as ovmse
from ovmse.core.errors import number_of
from ovmse.data.dataset import Dataset
from ovmse.render import draw
from ovmse.runs import rounds_file
from ovmse.runs.rounds_file import RoundRecord
from ovmse.stats.estimates import Curve
from ovmse.stats.paired import paired_difference
from ovmse.system.files import read_json_lines, write_bytes, write_json_lines

PLANT = Path(__file__).parents[1] / "examples" / "fleet.py"
RESULTS = tables.RESULTS / "logs_only.jsonl"
GAMMA = 0.9
RULES = 29.3
"""What the rules in use earn in a shift: the mean of 4,000."""
ARMS = {"tested": "with the acceptance test", "untested": "every new team is deployed"}
ROUNDS = 3
"""Rounds of each arm."""
TRIAL = 50
"""Shifts of a new team that a trial judges by; what it says changes nothing in the arms."""
LEARNER = "--method cfcql --gamma 0.9 --hidden 32 --learning-rate 1e-3 --batch-episodes 16 --target-rate 0.05"
VERDICTS = {
    "tested": "--fqe-updates 2000 --fits 8 --least-coverage 0.02",
    "untested": "--fqe-updates 1 --fits 2 --least-coverage 0 --margin 1",
}
"""The acceptance test; and one that always accepts, and costs nothing: fits of one update tell no teams apart."""


@dataclass(frozen=True)
class Study:
    """Where the runs go, and how long they are."""

    out: tyro.conf.Positional[Path] = Path("runs/logs-only")
    """the directory of the runs"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """of the rules' log, of the training, and of the shifts in the field"""
    arms: tuple[str, ...] = ("tested", "untested")
    """with the acceptance test, and without"""
    updates: int = 600
    """gradient updates on the rules' log"""
    round_updates: int = 600
    """gradient updates of each round"""


def run(*words: object) -> None:
    """A command of ovmse, as from a terminal."""
    if code := ovmse([str(word) for word in words]):
        raise SystemExit(code)


def play(who: object, log: Path, episodes: int, *words: object) -> Path:
    """Shifts in the plant, in a process of their own, and their log."""
    if not log.exists():
        command = [sys.executable, PLANT, who, "--episodes", episodes, "--out", log, *words]
        subprocess.run([str(word) for word in command], check=True)
    return log


def imported(log: Path) -> Path:
    """The dataset of a log of the plant."""
    data = log.with_suffix("")
    if not data.exists():
        run("import", log, "--out", data, "--mapping", PLANT.with_suffix(".toml"), "--time-limit", 30)
    return data


def exported(made: Path, teams: str = "deployed") -> Path:
    """A run's team as files that act by NumPy alone."""
    team = made.with_name(f"{made.name}-{teams}")
    if not team.exists():
        run("export", made, "--to", team, "--teams", teams, "--steps", 100)
    return team


def earned(team: Path) -> dict[str, Any]:
    """What a team earns in the plant, greedily: the mean of 200 shifts, and each shift's discounted return."""
    log = imported(play(team, team.with_name(f"{team.name}-plays.csv"), 200, "--seed", 10_000))
    flat = Dataset.open(log).flat
    return {"return": float(flat["reward"].sum() / 200), "each": discounted_returns(flat, GAMMA)}


def first_run(study: Study, seed: int) -> Path:
    """The team of the rules' log."""
    folder = study.out / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    data = imported(play("rules", folder / "rules.csv", 300, "--seed", seed))
    if not (folder / "first" / "summary.json").exists():
        words = ("--offline-updates", study.updates, "--evaluate-every-updates", study.updates, "--fqe-updates", 100)
        run("train", "--data", data, *LEARNER.split(), *words, "--seed", seed, "--out", folder / "first")
    return folder / "first"


def next_round(study: Study, arm: str, before: Path, number: int, seed: int) -> Path:
    """A round on what the deployed team brought back from the field."""
    out = before.with_name(f"{arm}-{number}")
    field = before.with_name(f"{before.name}-{arm}-field.csv")
    data = imported(play(exported(before), field, 200, "--seed", 1_000 * seed + number, "--epsilon", 0.2))
    if rounds_file.read(out) is None:
        words = ("--updates", study.round_updates, "--evaluate-every-updates", study.round_updates)
        run("improve", before, "--data", data, "--out", out, *words, *VERDICTS[arm].split())
    return out


def tried(made: Path, seed: int, number: int) -> RoundRecord:
    """A round with the verdict of a trial: 50 shifts of its new team, which explores as the deployed one did."""
    copy = made.with_name(f"{made.name}-tried")
    if not copy.exists():
        log = play(exported(made, "last"), made.with_name(f"{made.name}-trial.csv"), TRIAL, "--epsilon", 0.2,
                   "--seed", 50_000 + 1_000 * seed + number)  # fmt: skip
        shutil.copytree(made, copy)
        run("trial", copy, "--data", imported(log))
    found = rounds_file.read(copy)
    assert found is not None
    return found.rounds[-1]


def line(arm: str, seed: int, number: int, before: Path, made: Path) -> dict[str, Any]:
    """What a round's verdict said, and what is true of it in the plant; values there are discounted, as it has them."""
    found = rounds_file.read(made)
    assert found is not None
    said, old, new = found.rounds[-1], earned(exported(before)), earned(exported(made, "last"))
    truth = paired_difference(new["each"].tolist(), old["each"].tolist())
    accepted = said.accepted or arm == "untested"
    trial = None
    if arm == "tested" and (by := tried(made, seed, number)).trial is not None:
        trial = {"accepted": by.accepted, **asdict(by.trial)}
        del trial["data"]  # a place on this machine
    return {
        "seed": seed, "arm": arm, "round": number, "accepted": accepted,
        "said": said.difference, "low": said.low, "high": said.high, "allowed": 0.05 * abs(said.behaviour_return),
        "moved": said.moved, "coverage": said.new.coverage, "behaviour": said.behaviour_return, "fqe": said.new.fqe,
        "true": truth.value, "true_low": truth.low, "true_high": truth.high,
        "value": float(new["each"].mean()), "return_before": old["return"], "return_new": new["return"],
        "return_deployed": new["return"] if accepted else old["return"],
        "trial": trial,
    }  # fmt: skip


def main(study: Study) -> None:
    """Play, learn, and write down what each round came to; then draw."""
    there = read_json_lines(RESULTS) if RESULTS.exists() else []
    lines = [one for one in there if one["seed"] not in study.seeds or one["arm"] not in study.arms]
    for seed in study.seeds:
        for arm in study.arms:
            for one in rounds(study, arm, seed):
                lines.append(one)
                write_json_lines(RESULTS, lines)
    _, png = draw.save(figure(lines), tables.DOCS / "figures" / "logs-only", write_bytes)
    png.unlink()


def rounds(study: Study, arm: str, seed: int) -> Iterator[dict[str, Any]]:
    """The rounds of an arm."""
    made = first_run(study, seed)
    for number in range(1, ROUNDS + 1):
        before, made = made, next_round(study, arm, made, number, seed)
        yield line(arm, seed, number, before, made)


def figure(lines: list[dict[str, Any]]) -> Figure:
    """What the deployed team earns in a shift of the plant over the rounds, each seed and the mean of whole ones."""
    with matplotlib.rc_context(draw.THEME):
        made = Figure(figsize=(6, 3.6), layout="constrained")
        ax = made.subplots()
        for i, (arm, title) in enumerate(ARMS.items()):
            style, here = draw.style_of(i), [line for line in lines if line["arm"] == arm]
            seeds = [
                [line for line in here if line["seed"] == seed] for seed in sorted({line["seed"] for line in here})
            ]
            earned = [[some[0]["return_before"], *(line["return_deployed"] for line in some)] for some in seeds]
            for one in earned:
                ax.plot(range(len(one)), one, color=style["color"], alpha=0.35, linewidth=1)
            if whole := [one for one in earned if len(one) == ROUNDS + 1]:
                mean = Curve(np.arange(ROUNDS + 1.0), np.mean(whole, axis=0), None, None)
                draw.draw_curve(ax, mean, label=f"{title}, {number_of(len(whole), 'seed')}", **style)
        ax.axhline(RULES, color=draw.MUTED, linestyle=":", linewidth=1.2, label="the rules in use")
        draw.progress_axis(ax, "round", ROUNDS + 1)
        ax.set_ylabel("earned in a shift of the plant")
        ax.legend(loc="best")
    return made


if __name__ == "__main__":
    main(tyro.cli(Study))
