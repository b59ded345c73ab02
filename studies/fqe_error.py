"""How far is fitted Q evaluation from the truth, and what does that do to a choice?

    python studies/fqe_error.py runs/fqe-error

Two plants in NumPy: the fleet of examples/fleet.py, whose shifts are cut, and the corridor of docs/tutorial.md, whose
episodes end. Of each: one log of the rules in use; teams of six methods, two seeds, after 0, 500 and 1,000 updates,
trained on it without an environment; `ovmse select` on a second log of the same rules; and the truth, each team's
discounted return in the plant, up to the time limit.

Asked before the runs: how large is the bias (FQE − truth), and does it shrink with the fits' updates; how often does
the 95 % interval hold the truth; how well are teams ordered; how much worse than the best is the first choice?
Expected: orders that are worth something, a bias that is larger than the intervals, and a bias downwards until the
targets have travelled back through an episode. Outcome: docs/selection.md.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import tables
import tyro
from matplotlib.figure import Figure
from safetensors.numpy import load_file

import ovmse
from ovmse.ope.candidates import Candidate
from ovmse.policy.act import Policy
from ovmse.policy.load import read_team
from ovmse.render import draw
from ovmse.system.files import read_json_lines, write_bytes, write_json_lines

RESULTS = tables.RESULTS / "fqe_error.jsonl"
METHODS = ("bc", "offline", "icq", "iql", "omiga", "cfcql")
SMALL = ovmse.LearnerConfig(hidden=32, gamma=0.95)
"""The networks, and a γ by which 1 % of a value lies beyond 90 steps."""

found = importlib.util.spec_from_file_location("fleet", Path(__file__).parents[1] / "examples" / "fleet.py")
assert found is not None and found.loader is not None
fleet = importlib.util.module_from_spec(found)
found.loader.exec_module(fleet)


class Corridor:
    """The tutorial's corridor: two robots, five places, and a parcel that both must lift in the same step."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.over = rng, False
        self.places, self.parcel = rng.integers(0, 5, 2), rng.integers(0, 5)

    def seen(self) -> np.ndarray:
        """Where each robot, the parcel, and its partner are; [robot, feature]."""
        return np.stack([self.places, [self.parcel] * 2, self.places[::-1]], axis=1) / 4

    def step(self, action: np.ndarray) -> float:
        """Left, stay, right, lift; lifting alone hurts."""
        lifting = (action == 3) & (self.places == self.parcel)
        earned = 0.0 if self.over else 10.0 if lifting.all() else -0.1 - lifting.sum()
        self.over = self.over or bool(lifting.all())
        self.places = np.clip(self.places + (action == 2) - (action == 0), 0, 4)
        return float(earned)

    def rules(self) -> np.ndarray:
        """The old rules hesitate half of the time."""
        toward = np.where(self.places == self.parcel, 3, np.where(self.places < self.parcel, 2, 0))
        return np.where(self.rng.random(2) < 0.5, toward, self.rng.integers(0, 4, 2))


class Fleet(fleet.Plant):  # type: ignore[misc, name-defined]
    """The fleet, whose shifts have no end of their own."""

    over = False

    def rules(self) -> np.ndarray:
        """The rules in use, of which people do something else in a fifth of the steps."""
        return np.asarray(fleet.rules(self, 0.2))


class Kind(NamedTuple):
    """A plant. steps: of an episode in the logs; episodes: of each log; n_actions: of each agent."""

    make: Callable[[np.random.Generator], Any]
    steps: int
    episodes: int
    n_actions: int


PLANTS = {"corridor": Kind(Corridor, 20, 300, 4), "fleet": Kind(Fleet, 50, 300, 3)}


@dataclass(frozen=True)
class Study:
    """Where the runs go, and how long they are."""

    out: tyro.conf.Positional[Path] = Path("runs/fqe-error")
    """the directory of the runs"""
    plants: tuple[str, ...] = ("corridor", "fleet")
    """which plants"""
    fits: tuple[int, ...] = (500, 2_000)
    """gradient updates of each fit: the first, and a longer one"""
    seeds: int = 2
    """seeds of each method"""
    updates: int = 1_000
    """gradient updates of training; teams are kept at half of them, too"""
    shifts: int = 400
    """episodes that tell the truth of a team"""


def log(kind: Kind, path: Path, seed: int) -> Path:
    """A log of the rules in use."""
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    with ovmse.DatasetWriter(path, n_actions=kind.n_actions, about={"behaviour": "the rules in use"}) as writer:
        for _ in range(kind.episodes):
            plant = kind.make(rng)
            obs, actions, rewards = [plant.seen()], [], []
            while len(actions) < kind.steps and not plant.over:
                actions.append(plant.rules())
                rewards.append(plant.step(actions[-1]))
                obs.append(plant.seen())
            arrays = {"obs": np.float32(obs), "action": np.array(actions), "reward": np.float32(rewards)}
            writer.add_episode(**arrays, terminal=plant.over)
    return path


def trained(study: Study, data: Path, out: Path) -> Path:
    """A run of one method, its teams kept on the way."""
    if not (out / "summary.json").exists():
        ovmse.train(
            ovmse.Config(
                env="none",
                data=str(data),
                method=out.name,
                seeds=study.seeds,
                offline_updates=study.updates,
                evaluate_every_updates=study.updates // 2,
                batch_episodes=16,
                held_out=0.1,
                fqe_updates=1,
                keep_teams=True,
                learner=SMALL,
                out=out,
            )
        )
    return out


def truth(kind: Kind, one: Candidate, episodes: int) -> tuple[float, float]:
    """What a team earns in the plant, discounted, and the standard error of that; the same episodes for all teams."""
    contract, weights = read_team(one.run, one.seed)
    arrays = load_file(one.file)
    team = Policy(contract.described(), {name: arrays[name][one.index] for name in weights})
    plants = [kind.make(np.random.default_rng([99, i])) for i in range(episodes)]
    memory, total = None, np.zeros(episodes)
    for t in range(kind.steps):
        action, memory = team.act(np.stack([plant.seen() for plant in plants]), memory=memory)
        total += SMALL.gamma**t * np.array([plant.step(does) for plant, does in zip(plants, action, strict=True)])
    return float(total.mean()), float(total.std(ddof=1) / episodes**0.5)


def measured(study: Study, name: str) -> list[dict[str, Any]]:
    """A line for each team of a plant, and each length of fits."""
    kind, folder = PLANTS[name], study.out / name
    first, second = (log(kind, folder / f"log-{i}", i) for i in (0, 1))
    runs = tuple(trained(study, first, folder / method) for method in METHODS)
    lines, true = [], {}
    for updates in study.fits:
        given = {"batch_episodes": 16, "hidden": SMALL.hidden, "gamma": SMALL.gamma, "updates": updates}
        chosen = ovmse.select(ovmse.Selecting(runs=runs, data=str(second), out=folder / f"fits-{updates}", **given))
        for row in chosen.rows:
            one = row.candidate
            if one.name not in true:
                true[one.name] = truth(kind, one, study.shifts)
            value, error = true[one.name]
            lines.append(
                {
                    "plant": name, "fits": updates, "method": one.config.method, "seed": one.seed, "updates": one.place,
                    "rank": row.rank, "fqe": row.fqe, "fqe_low": row.fqe_low, "fqe_high": row.fqe_high,
                    "moved": row.moved, "coverage": row.agreement.coverage, "true": value, "true_error": error,
                }
            )  # fmt: skip
    return lines


def figure(lines: list[dict[str, Any]]) -> Figure:
    """FQE over the truth, a mark for each team, by plant; hollow where the team had learned nothing."""
    with matplotlib.rc_context(draw.THEME):
        plants = [name for name in PLANTS if any(line["plant"] == name for line in lines)]
        made = Figure(figsize=(4.5 * len(plants), 4.2), layout="constrained")
        for ax, name in zip(made.subplots(1, len(plants), squeeze=False)[0], plants, strict=True):
            here = [line for line in lines if line["plant"] == name]
            most = max(line["fits"] for line in here)
            for i, method in enumerate(METHODS):
                for some, face in ((True, draw.PALETTE[i]), (False, "none")):
                    those = [
                        x for x in here if x["method"] == method and x["fits"] == most and (x["updates"] > 0) == some
                    ]
                    x, y = ([line[what] for line in those] for what in ("true", "fqe"))
                    label = method if some else None
                    ax.scatter(x, y, s=26, color=draw.PALETTE[i], facecolors=face, label=label, zorder=3)
            low, high = ax.get_xlim()
            ax.plot([low, high], [low, high], color=draw.MUTED, linestyle=":", linewidth=1)
            ax.set_title(f"{name}, fits of {most:,} updates")
            ax.set_xlabel("true discounted return")
        made.axes[0].set_ylabel("fitted Q evaluation")
        made.axes[0].legend(loc="lower right")
    return made


def main(study: Study) -> None:
    """Train, select, play; write the lines; draw."""
    there = read_json_lines(RESULTS) if RESULTS.exists() else []
    for name in study.plants:
        there = [line for line in there if line["plant"] != name] + measured(study, name)
        write_json_lines(RESULTS, there)
    tables.renew("fqe_error")
    _, png = draw.save(figure(there), tables.DOCS / "figures" / "fqe-error", write_bytes)
    png.unlink()


if __name__ == "__main__":
    main(tyro.cli(Study))
