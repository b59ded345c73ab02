"""Does the way from a log over an offline phase to an online one work beyond SMAX, and where is anything learned?

Written down before the runs. Six worlds of six libraries, small budgets, three seeds. Asked of each: is the team from
the log alone better than random play, and than the log; does the online phase add to that, by `ovmse` and by
`finetune`, which explore equally often; what went wrong. **Primary outcome**: the mean online score (the win rate where
the world can be won, else the return), with its 95 % interval over seeds. Beside it the score before, the mean over the
last fifth, and what the time went into: the environment, acting, learning. Settings were fixed by quick looks at four
of the worlds with seed 100, which is not used again. Three seeds say little about which method is better; that is not
the question. **A second look**, written down after the first one at lbforaging and before its own runs: there a team
that stands still is cut by the limit and values go on, so that nothing tells it that standing is bad. Does it move once
the limit ends an episode, all else equal (`limit ends`)? **A third look**, written down before its runs: does foraging
get above random play by five times as many offline updates, in steps of 0.001, and twice as many environment steps
(`longer`)?

    python studies/worlds.py runs/worlds                # all of them
    python studies/worlds.py runs/worlds --world rware  # one of them
    python studies/worlds.py                            # the table and the figure alone

Needs ``pip install 'ovmse[gymnasium,jumanji,pettingzoo,sumo]' magent2``. What is in the directory already (logs, runs)
is not made again. Each cell and seed is a line of studies/results/worlds.jsonl. It all runs on one core.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tables
import tyro
from cells import finished
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from world_speed import seconds

from ovmse.analysis.results import summarise_run
from ovmse.data.dataset import Dataset
from ovmse.render import draw, format as fmt
from ovmse.runs.metrics_file import load_run
from ovmse.stats import estimates
from ovmse.system.cores import pin, usable_cores
from ovmse.system.files import append_json_lines, write_bytes

HERE = Path(__file__).parent
RESULTS = tables.RESULTS / "worlds.jsonl"
METHODS = ("ovmse", "finetune")
RANDOM = ("--rule", "world_rules:anything", "--epsilon", "1", "--episodes", "32")


@dataclass(frozen=True)
class World:
    """A world: its environment and settings, how its log is made, how teams learn, and the ways to learn that differ.

    settings, log, learn: words of the command line. arms: the name of each way, and what its settings add.
    """

    env: str
    settings: Sequence[str]
    log: Sequence[str]
    learn: Sequence[str]
    arms: dict[str, Sequence[str]] = field(default_factory=lambda: {"": ()})

    @property
    def words(self) -> list[str]:
        """The environment as words of the command line."""
        return ["--env", self.env, *(word for x in self.settings for word in ("--env-settings", x))]


def budget(updates: int, steps: int, evaluations: int, *more: str) -> list[str]:
    """Words of the command line: updates of the offline phase, environment steps of the online one, evaluations."""
    words = {
        "--offline-updates": updates,
        "--evaluate-every-updates": updates // 2,
        "--online-env-steps": steps,
        "--evaluate-every-env-steps": steps // evaluations,
        "--learning-rate": 0.002,  # of four times the usual size, since the phases are that short
    }
    return [*(str(x) for pair in words.items() for x in pair), *more]


LIMIT_ENDS = ("--no-bootstrap-at-limit",)
WORLDS = {
    "lbforaging": World(
        "gymnasium:lbforaging:Foraging-5x5-2p-1f-v3",
        ["reward_scale=20.0"],
        ["--rule", "world_rules:forage", "--epsilon", "0.6", "--episodes", "400"],
        budget(600, 5_000, 5, "--evaluate-episodes", "32"),
        {"": (), "limit ends": LIMIT_ENDS, "longer": budget(3_000, 10_000, 5, "--learning-rate", "0.001")},
    ),
    "rware": World(
        "gymnasium:rware:rware-tiny-2ag-easy-v2",
        ["max_steps=100", "reward_scale=5.0"],
        ["--rule", "world_rules:deliver", "--epsilon", "0.1", "--episodes", "300"],
        budget(500, 6_400, 4, "--evaluate-episodes", "16", "--batch-episodes", "16"),
        {"limit ends": LIMIT_ENDS},
    ),
    "connector": World(
        "jumanji:Connector-v3",
        ["grid_size=6", "num_agents=3", "time_limit=20", "reward_scale=6.0"],
        ["--episodes", "500", "--behaviour-env-steps", "40000", "--evaluate-every-env-steps", "4000"],
        budget(600, 12_000, 5, "--evaluate-episodes", "64"),
    ),
    "speaker_listener": World(
        "jaxmarl:MPE_simple_speaker_listener_v4",
        [],
        ["--episodes", "500", "--behaviour-env-steps", "50000", "--evaluate-every-env-steps", "5000"]
        + ["--parameters", "per_agent", *LIMIT_ENDS],
        budget(600, 12_000, 5, "--evaluate-episodes", "64"),
        {
            "shared, limit ends": LIMIT_ENDS,
            "per agent, limit ends": ("--parameters", "per_agent", *LIMIT_ENDS),
            "per agent": ("--parameters", "per_agent"),
        },
    ),
    "magent2": World(
        "pettingzoo:one_side",
        ["map_size=12", "max_cycles=60", "reward=sum"],
        ["--rule", "world_rules:fight", "--epsilon", "0.5", "--episodes", "200"],
        budget(500, 4_000, 4, "--evaluate-episodes", "32", "--batch-episodes", "16"),
    ),
    "ingolstadt7": World(
        "sumo:ingolstadt7",
        ["seconds=600", "depart_offset_seconds=60"],
        ["--rule", "sumo:max_pressure", "--epsilon", "0.3", "--episodes", "60"],
        budget(400, 960, 2, "--evaluate-episodes", "4", "--episodes-per-collect", "4", "--batch-episodes", "16"),
        {"limit ends": LIMIT_ENDS},
    ),
}


def main(
    out: tyro.conf.Positional[Path | None] = None,
    world: str | None = None,
    seeds: int = 3,
    seed: int = 0,
    results: Path = RESULTS,
) -> None:
    """Run what is not there yet, keep a line for each cell and seed, and renew the page.

    Args:
        out: the directory of the logs and the runs; without one the page alone is renewed.
        world: one of `WORLDS`; by default all.
        seeds: repetitions.
        seed: the first one.
        results: the file of the lines; where it is another one, the page stays.
    """
    if out is not None:
        pin(usable_cores()[0])
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        for name in [world] if world else WORLDS:
            run_world(
                name, WORLDS[name], out / name.replace(" ", "-"), ["--seeds", str(seeds), "--seed", str(seed)], results
            )
    if results == RESULTS:
        tables.renew("worlds")
        _, png = draw.save(figure(), tables.DOCS / "figures" / "worlds", write_bytes)
        png.unlink()


def run_world(name: str, world: World, out: Path, seeds: Sequence[str], results: Path) -> None:
    """The logs and runs of a world, and their lines."""
    make(out / "random", "collect", *world.words, *RANDOM)
    make(out / "log", "collect", *world.words, *world.log)
    done = finished(results, "world", "arm", "method")
    for arm, more in world.arms.items():
        place = arm.replace(", ", "-").replace(" ", "-") or "run"
        for method in METHODS:
            run = out / f"{place}-{method}"
            shared = () if method == "ovmse" else ("--pretrained", str(out / f"{place}-ovmse"))
            words = [*world.words, "--data", str(out / "log"), *seeds, *world.learn, *more, "--method", method]
            make(run, "train", *words, *shared)
            if (name, arm, method) not in done:
                append_json_lines(results, lines(name, arm, method, run, out / "random", out / "log"))


def make(out: Path, *words: str) -> None:
    """Run a command of ovmse that writes `out`, unless that is there."""
    if not out.exists():
        print(" ".join(words), flush=True)
        subprocess.run([sys.executable, "-m", "ovmse", *words, "--out", str(out)], check=True)


def lines(name: str, arm: str, method: str, run: Path, random: Path, log: Path) -> list[dict[str, Any]]:
    """What is kept of each seed of a run."""
    record, found = load_run(run), []
    judged = summarise_run(record)
    same = {
        "world": name,
        "arm": arm,
        "method": method,
        "score": judged.score,
        "log": level(log, judged.score),
        "random": level(random, judged.score),
        "seconds": seconds(record),
        "git_revision": record.versions["git_revision"],
    }
    for seed, trace in zip(judged.seeds, record.online, strict=True):
        numbers = {"before": seed.before, "mean_online": seed.auc, "last_fifth": seed.last_fifth}
        numbers["q_tot"] = trace.columns["q_tot"][-1]
        curve = [[round(float(x), 4) for x in trace.columns[column]] for column in ("env_steps", judged.score)]
        kept = {key: None if x is None else round(float(x), 4) for key, x in numbers.items()}
        found.append(same | {"seed": seed.seed} | kept | {"curve": curve})
    return found


def level(path: Path, score: str) -> float:
    """The mean score of a dataset's episodes."""
    data = Dataset.open(path)
    if score == "win_rate":
        return round(float(np.mean(data.flat["won"])), 4)
    return round(float(np.sum(data.reward) / len(data.length)), 4)


def figure() -> Figure:
    """The score over the online phase, a panel for each world and way to learn: every seed, and each method's mean."""
    lines = tables.read("worlds")
    found = {(x["world"], x["arm"]) for x in lines}
    panels = [(name, arm) for name, world in WORLDS.items() for arm in world.arms if (name, arm) in found]
    rows = -(-len(panels) // 3)
    with matplotlib.rc_context(draw.THEME):
        made = Figure(figsize=(9, 2.3 * rows + 0.5), layout="constrained")
        axes = made.subplots(rows, 3, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=False):
            draw_world(ax, panel, [x for x in lines if (x["world"], x["arm"]) == panel])
        for ax in axes[len(panels) :]:
            ax.remove()
        made.supxlabel("environment steps online", fontsize=9.5)
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return made


def draw_world(ax: Axes, panel: tuple[str, str], lines: Sequence[dict[str, Any]]) -> None:
    """One panel."""
    ax.set_title("\n".join(x for x in panel if x))
    ax.set_ylabel(fmt.SCORE_NAMES[lines[0]["score"]])
    for colour, method in zip(draw.PALETTE, METHODS, strict=False):
        curves = [np.array(line["curve"]) for line in lines if line["method"] == method]
        for curve in curves:
            ax.plot(*curve, color=colour, alpha=0.35, linewidth=0.9)
        if curves:
            mean = estimates.curve([curve[0] for curve in curves], [curve[1] for curve in curves])
            ax.plot(mean.x, mean.middle, color=colour, label=method)
    for name, label, dash in (("log", "the log", "--"), ("random", "random play", ":")):
        ax.axhline(lines[0][name], color=draw.MUTED, linestyle=dash, linewidth=1.2, label=label)
    draw.progress_axis(ax, "", 4)
    draw.score_axis(ax, lines[0]["score"])


if __name__ == "__main__":
    tyro.cli(main)
