"""A city's own signals log, an offline phase learns from that, an online phase goes on: who waits how long?

    python studies/traffic.py runs/traffic [--looks=-long --looks=-busy]

Needs ``pip install 'ovmse[sumo]'``. What is in the directory already (log, runs) is not made again. Each controller
plays the same mornings; its waits are a line of studies/results/traffic.jsonl.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tables
import tyro
from cells import finished
from matplotlib.figure import Figure

from ovmse.collection import rules
from ovmse.core.literals import TeamChoice
from ovmse.data.dataset import Dataset
from ovmse.envs.sumo import TrafficSignals
from ovmse.policy.load import load
from ovmse.render import draw
from ovmse.system.files import append_json_lines, write_bytes

RESULTS = tables.RESULTS / "traffic.jsonl"
SETTINGS = {"seconds": 1800, "depart_offset_seconds": 60}
RULES = {"fixed_time": 0.0, "longest_queue": 0.0, "max_pressure": 0.0, "log": 0.2, "random": 1.0}
"""How often each agent acts at random; the log is of max-pressure, and random play has any rule behind it."""


@dataclass(frozen=True)
class Look:
    """One look at the question: its traffic, its budget, and what its runs' settings add."""

    demand: float = 1.0
    logged: int = 200  # mornings of the log
    updates: int = 2_000  # of the offline phase
    mornings: int = 64  # of the online phase
    updates_per_collect: int = 32
    evaluations: int = 2  # of the online phase, after the first
    seeds: int = 3
    more: tuple[str, ...] = ("--no-bootstrap-at-limit",)
    begins: str | None = None  # the look whose offline phase is taken over; by default one of its own

    @property
    def env(self) -> list[str]:
        """The environment, as the command line is told."""
        settings = SETTINGS | ({} if self.demand == 1.0 else {"demand": self.demand})
        typed = (("--env-settings", f"{setting}={value}") for setting, value in settings.items())
        return ["--env", "sumo:cologne3", *chain.from_iterable(typed)]


LONG = Look(logged=300, updates=3_000, mornings=120, updates_per_collect=64, seeds=5)
BUSY = replace(LONG, demand=1.2)
GUARDED = replace(BUSY, more=(*BUSY.more, "--guard-margin", "0.2"), evaluations=8, begins="-busy")
LOOKS = {"": Look(more=()), "-ends": Look(), "-long": LONG, "-busy": BUSY, "-guarded": GUARDED}
"""What the runs and results of each look are called by."""
FIRST = 1_000_000  # the first seed of the mornings that controllers are judged by

Act = Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, Any]]
"""(observations, legal actions, what is carried) → actions, what is carried."""


def main(out: tyro.conf.Positional[Path], looks: tuple[str, ...] = tuple(LOOKS), judged_by: int = 32) -> None:
    """Run what is not there yet, and judge it.

    Args:
        out: the directory of the logs and the runs.
        looks: which of `LOOKS`.
        judged_by: mornings that each controller is judged by.
    """
    for name in looks:
        run(out, name, LOOKS[name], judged_by)
    for table in ("traffic", "traffic, busy", "traffic, online"):
        tables.renew(table)
    _, png = draw.save(figure(), tables.DOCS / "figures" / "traffic", write_bytes)
    png.unlink()


def run(out: Path, name: str, look: Look, judged_by: int) -> None:
    """One look: its log, its two runs, and the mornings of all controllers."""
    before = name if look.begins is None else look.begins
    log = out / f"log{'' if look.logged == Look.logged else before}"
    rule = ["--rule", "sumo:max_pressure", "--epsilon", str(RULES["log"])]
    make(log, "collect", *look.env, *rule, "--episodes", str(look.logged))
    steps = look.mornings * SETTINGS["seconds"] // 10
    train = ["train", *look.env, "--data", str(log), "--seeds", str(look.seeds), "--keep-experience"]
    train += ["--offline-updates", str(look.updates), "--evaluate-every-updates", str(look.updates)]
    train += ["--online-env-steps", str(steps), "--evaluate-every-env-steps", str(steps // look.evaluations)]
    train += ["--updates-per-collect", str(look.updates_per_collect), "--batch-episodes", "16"]
    train += ["--evaluate-episodes", "8", *look.more]
    same = ["--pretrained", str(out / f"ovmse{before}")]
    make(out / f"ovmse{name}", *train, "--method", "ovmse", *(same if look.begins else ()))
    make(out / f"finetune{name}", *train, "--method", "finetune", *same)
    env, done = TrafficSignals("cologne3", **SETTINGS, demand=look.demand), finished(RESULTS, "controller", "seed")
    called = "-busy" if look.demand > 1 else ""
    for rule_name, epsilon in RULES.items():
        if (rule_name + called, 0) not in done:
            act = by_rule("max_pressure" if rule_name in ("log", "random") else rule_name, epsilon)
            keep(env, act, judged_by, rule_name + called, 0)
    if (f"max_pressure_again{called}", 0) not in done:
        act = by_rule("max_pressure", 0.0)
        keep(env, act, 3 * judged_by, f"max_pressure_again{called}", 0, first=FIRST + judged_by)
    methods = ("offline", "finetune", "ovmse") if look.begins is None else ("finetune", "ovmse")
    for method, seed in product(methods, range(look.seeds)):
        trained = out / f"{'ovmse' if method == 'offline' else method}{name}"
        if (method + name, seed) not in done:
            online = () if method == "offline" else waited_online(trained / "experience" / f"seed-{seed}")
            last: TeamChoice = "safe" if "--guard-margin" in look.more else "last"
            team = load(trained, seed, "offline" if method == "offline" else last)
            keep(env, by_team(team), judged_by, method + name, seed, online)


def make(out: Path, *words: str) -> None:
    """Run a command of ovmse that writes `out`, unless that is there."""
    if not out.exists():
        subprocess.run([sys.executable, "-m", "ovmse", *words, "--out", str(out)], check=True)


def by_rule(name: str, epsilon: float) -> Act:
    """A rule in use, whose agents act at random with probability ε."""
    rule, rng = rules.find(f"sumo:{name}"), np.random.default_rng(0)

    def act(obs: np.ndarray, avail: np.ndarray, carried: Any) -> tuple[np.ndarray, Any]:
        at_random = [rng.choice(np.flatnonzero(legal)) for legal in avail]
        return np.where(rng.random(len(avail)) < epsilon, at_random, rule(obs, avail)), None

    return act


def by_team(team: Any) -> Act:
    """A trained team, greedy."""
    return lambda obs, avail, memory: team.act(obs, avail, memory)


def keep(
    env: TrafficSignals,
    act: Act,
    mornings: int,
    name: str,
    seed: int,
    online: Sequence[float] = (),
    first: int = FIRST,
) -> None:
    """Judge a controller, and keep its line. online: hours waited on each morning on which it learned."""
    measured = [morning(env, act, first + i) for i in range(mornings)]
    found = {key: [round(x[key], 2) for x in measured] for key in measured[0]}
    append_json_lines(RESULTS, [{"controller": name, "seed": seed} | found | {"online": list(online)}])
    print(name, seed, np.mean(found["seconds_waited_per_car"]), flush=True)


def morning(env: TrafficSignals, act: Act, seed: int) -> dict[str, float]:
    """The measures of one morning."""
    observation, carried, over = env.reset_host(seed), None, False
    while not over:
        action, carried = act(observation.obs, observation.avail, carried)
        observation, result = env.step_host(action)
        over = bool(result.truncated)
    return dict(env.episode_measures)


def waited_online(experience: Path) -> list[float]:
    """Hours that all cars together waited on each morning of the online phase, by its reward."""
    data = Dataset.open(experience)
    ends = np.cumsum(data.length)
    return [
        round(float(-1000 * data.reward[e - n : e].sum() / 3600), 3) for n, e in zip(data.length, ends, strict=True)
    ]


def figure() -> Figure:
    """Every morning of every controller, and its mean."""
    lines = tables.read("traffic")
    names = [name for name in tables.CONTROLLERS if any(line["controller"] == name for line in lines)]
    with matplotlib.rc_context(draw.THEME):
        made = Figure(figsize=(8, 4.8), layout="constrained")
        ax, rng = made.subplots(), np.random.default_rng(0)
        for i, name in enumerate(names):
            waits = np.concatenate([x["seconds_waited_per_car"] for x in lines if x["controller"] == name])
            colour = draw.PALETTE[0 if name in RULES or name == "max_pressure_again" else 1]
            ax.plot(waits, i + rng.uniform(-0.25, 0.25, len(waits)), "o", color=colour, alpha=0.45, markersize=3.5)
            ax.plot([waits.mean()] * 2, [i - 0.36, i + 0.36], color=draw.INK, linewidth=2.2)
        ax.set_yticks(range(len(names)), [tables.CONTROLLERS[name].replace("`", "") for name in names])
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_xticks([10, 20, 50, 100, 200, 500], ["10", "20", "50", "100", "200", "500"])
        ax.minorticks_off()
        ax.set_xlabel("seconds waited per car (points: mornings; lines: means)")
    return made


if __name__ == "__main__":
    tyro.cli(main)
