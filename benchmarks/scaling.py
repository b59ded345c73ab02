"""How the cost of an update grows with the number of agents and with the episodes' length, against its operations."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import programs, update
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record, timed
from benchmarks.sizes import battle_spec, full_lengths, synthetic
from benchmarks.timing import interleaved, spread
from ovmse.core.types import EnvSpec
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method

AGENTS = (3, 5, 8, 10, 16, 27)
STEPS = (10, 20, 35, 50, 70, 100)
BATCH, EPISODES = 32, 32
AGENTS_STEPS = 40  # steps of an episode where the agents vary
STEPS_AGENTS = 5  # agents where the steps vary
LOSS = CQL()


def cost(setting: Setting, spec: EnvSpec, name: str) -> list[Record | Ratio]:
    """One update of QMIX with CQL on episodes that all last to the limit."""
    lengths = full_lengths(EPISODES, spec.episode_limit)
    config = programs.config_for(spec, batch=BATCH, seeds=1)
    data = programs.data_of(synthetic(spec, lengths), seeds=1)
    call = programs.offline_updates(config, spec, Method(offline_loss=LOSS), data)
    seconds, _ = interleaved({"": call}, setting.options.repeats, setting.options.seconds)[""]
    floor = update.floor_of(config, spec, lengths, LOSS)
    sizes: dict[str, float | str] = {"agents": spec.n_agents, "steps": spec.episode_limit}
    return [
        timed(
            spread(seconds),
            floor,
            setting.ceiling,
            part="scaling",
            name=name,
            env=f"{spec.n_agents} against {spec.n_agents}, {spec.episode_limit} steps",
            batch=BATCH,
            seeds=1,
            cores=setting.cores,
            notes=sizes,
        )
    ]


def jobs(options: Options, process: Process) -> list[Job]:
    """On one core or an accelerator."""
    if not process.single:
        return []
    every = 2 if options.quick else 1
    found = [_job("agents", battle_spec(n, n, AGENTS_STEPS)) for n in AGENTS[::every]]
    return found + [_job("steps", battle_spec(STEPS_AGENTS, STEPS_AGENTS, steps)) for steps in STEPS[::every]]


def _job(name: str, spec: EnvSpec) -> Job:
    def run(setting: Setting) -> list[Record | Ratio]:
        return cost(setting, spec, name)

    return Job(f"scaling with {name}, {spec.n_agents} agents, {spec.episode_limit} steps", run)


def growth(records: list[Record], name: str) -> list[tuple[float, float, float]]:
    """(agents or steps, seconds, operations) of the records of one kind, the smallest first."""
    mine = [r for r in records if r.part == "scaling" and r.name == name]
    return sorted((float(r.notes[name]), r.value.median, float(r.notes["products"])) for r in mine)


def excess(records: list[Record]) -> list[Ratio]:
    """From the smallest to the largest: by how much the time grew, over by how much the operations grew."""
    found = []
    for name in ("agents", "steps"):
        points = growth(records, name)
        if len(points) > 1:
            (least, t0, f0), (most, t1, f1) = points[0], points[-1]
            over = (t1 / t0) / (f1 / f0)
            what = f"growth of time ÷ of operations, {least:.0f} to {most:.0f} {name}"
            found.append(Ratio("scaling", what, "", 1, spread([over]), "≤ 1"))
    return found


def draw(records: list[Record], path: Path) -> None:
    """The figure: milliseconds per update against agents and steps, and what the operations at the floor take."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharey=True)
    labels = {
        "agents": f"agents (episodes of {AGENTS_STEPS} steps)",
        "steps": f"steps of an episode ({STEPS_AGENTS} agents)",
    }
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        mine = sorted(
            (r for r in records if r.part == "scaling" and r.name == name), key=lambda r: float(r.notes[name])
        )
        if not mine:
            continue
        x = [float(r.notes[name]) for r in mine]
        values = 1e3 * np.array([[r.value.median, r.value.low, r.value.high] for r in mine])
        bars = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        axes.errorbar(x, values[:, 0], bars, fmt="o-", color="tab:blue", capsize=3, label="measured")
        products = np.array([float(r.notes["products"]) for r in mine])
        law = values[0, 0] * products / products[0]
        axes.plot(x, law, "--", color="tab:orange", label="as the operations grow")
        floors = [1e3 * r.floor_seconds for r in mine if r.floor_seconds is not None]
        axes.plot(x, floors, ":", color="0.4", label="floor of this machine")
        axes.set(xscale="log", yscale="log", xlabel=label, xticks=x, xticklabels=[f"{v:.0f}" for v in x])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"ms per update of {BATCH} episodes")
    panels[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
