"""A city's own signals log, an offline phase learns from that, an online phase goes on: who waits how long?

    python studies/traffic.py runs/traffic

Needs ``pip install 'ovmse[sumo]'``. What is in the directory already (log, runs) is not made again. Each controller
plays the same mornings; its waits are a line of studies/results/traffic.jsonl.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tables
import tyro
from cells import finished
from matplotlib.figure import Figure

from ovmse.collection import rules
from ovmse.data.dataset import Dataset
from ovmse.envs.sumo import TrafficSignals
from ovmse.policy.load import load
from ovmse.render import draw
from ovmse.system.files import append_json_lines, write_bytes

RESULTS = tables.RESULTS / "traffic.jsonl"
SETTINGS = {"seconds": 1800, "depart_offset_seconds": 60}
ENV = ["--env", "sumo:cologne3", *(word for x in SETTINGS.items() for word in ("--env-settings", "{}={}".format(*x)))]
RULES = {"fixed_time": 0.0, "longest_queue": 0.0, "max_pressure": 0.0, "log": 0.2, "random": 1.0}
"""How often each agent acts at random; the log is of max-pressure, and random play has any rule behind it."""
LOOKS = {"": [], "-ends": ["--no-bootstrap-at-limit"]}
"""What the runs of each look are called by, and what their settings add."""
FIRST = 1_000_000  # the first seed of the mornings that controllers are judged by

Act = Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, Any]]
"""(observations, legal actions, what is carried) → actions, what is carried."""


def main(
    out: tyro.conf.Positional[Path],
    episodes: int = 200,
    updates: int = 2_000,
    mornings: int = 64,
    seeds: int = 3,
    judged_by: int = 32,
) -> None:
    """Run what is not there yet, and judge it.

    Args:
        out: the directory of the log and the runs.
        episodes: mornings in the log.
        updates: gradient updates of the offline phase.
        mornings: mornings of the online phase.
        seeds: repetitions.
        judged_by: mornings that each controller is judged by.
    """
    rule = ["--rule", "sumo:max_pressure", "--epsilon", str(RULES["log"])]
    make(out / "log", "collect", *ENV, *rule, "--episodes", str(episodes))
    steps = mornings * SETTINGS["seconds"] // 10
    train = ["train", *ENV, "--data", str(out / "log"), "--seeds", str(seeds), "--keep-experience"]
    train += ["--offline-updates", str(updates), "--evaluate-every-updates", str(updates)]
    train += ["--online-env-steps", str(steps), "--evaluate-every-env-steps", str(steps // 2)]
    train += ["--updates-per-collect", "32", "--batch-episodes", "16", "--evaluate-episodes", "8"]
    for look, more in LOOKS.items():
        make(out / f"ovmse{look}", *train, *more, "--method", "ovmse")
        make(out / f"finetune{look}", *train, *more, "--method", "finetune", "--pretrained", str(out / f"ovmse{look}"))
    env, done = TrafficSignals("cologne3", **SETTINGS), finished(RESULTS, "controller", "seed")
    for name, epsilon in RULES.items():
        if (name, 0) not in done:
            keep(env, by_rule("max_pressure" if name in ("log", "random") else name, epsilon), judged_by, name, 0)
    if ("max_pressure_again", 0) not in done:
        keep(env, by_rule("max_pressure", 0.0), 3 * judged_by, "max_pressure_again", 0, first=FIRST + judged_by)
    for look, method, seed in product(LOOKS, ("offline", "finetune", "ovmse"), range(seeds)):
        name, run = method + look, out / f"{'ovmse' if method == 'offline' else method}{look}"
        if (name, seed) not in done:
            online = () if method == "offline" else waited_online(run / "experience" / f"seed-{seed}")
            teams = "offline" if method == "offline" else "last"
            keep(env, by_team(load(run, seed, teams)), judged_by, name, seed, online)
    for table in ("traffic", "traffic, online"):
        tables.renew(table)
    _, png = draw.save(figure(), tables.DOCS / "figures" / "traffic", write_bytes)
    png.unlink()


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
