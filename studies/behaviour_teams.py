"""The behaviour teams of the hard maps, and the datasets cut from each one's run: what the studies learn from.

    python studies/behaviour_teams.py --out data

A team of each map and seed is trained by online QMIX; `MAP-sSEED` is its medium dataset, and `-medium-replay` and
`-expert` lie beside it. What is there already is not made again. The lines of ``--results`` say what each dataset is,
checksum included, so that one made elsewhere can be compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from ovmse.collection.collect import beside, collect
from ovmse.collection.settings import Collecting, Quality
from ovmse.config import LearnerConfig
from ovmse.data.dataset import Dataset
from ovmse.system.files import write_json_lines
from ovmse.training.display import Display

MAPS = {"2s3z": (160_000, 4_000), "6h_vs_8z": (120_000, 4_000), "3s_vs_5z": (250_000, 5_000), "3s5z": (200_000, 5_000)}
"""Environment steps of a team's training, and between two candidates."""
ALSO: tuple[Quality, ...] = ("medium-replay", "expert")


@dataclass(frozen=True)
class Study:
    """Which teams are trained, and where their datasets go."""

    out: Path = Path("data")
    """the directory of the datasets"""
    results: Path = Path("studies/results/behaviour_teams.jsonl")
    """where a line on each dataset goes"""
    seeds: int = 2
    """behaviour teams per map, from seed 0"""


def collecting(env_map: str, seed: int, out: Path) -> Collecting:
    """The medium dataset of one team, and how the team is trained."""
    steps, every = MAPS[env_map]
    return Collecting(
        env=f"smax:{env_map}",
        quality="medium",
        episodes=2_000,
        out=out / f"{env_map}-s{seed}",
        seed=seed,
        behaviour_env_steps=steps,
        evaluate_every_env_steps=every,
        episodes_per_collect=16,
        learner=LearnerConfig(learning_rate=0.001),
        change=("explore.epsilon=linear(1.0,0.05,0.3)",),
    )


def described(path: Path) -> dict[str, Any]:
    """What a dataset is, in a line."""
    dataset = Dataset.open(path)
    meta = dataset.metadata
    found = {name: getattr(meta, name) for name in ("quality", "seed", "episodes", "steps", "behaviour", "checksum")}
    return {
        "dataset": path.name,
        **found,
        "win_rate": round(float(dataset.won.mean()), 4),
        "revision": meta.git_revision,
    }


def main(study: Study) -> None:
    """Make what is not there yet, then write the lines on all that is."""
    display, lines = Display(Console()), []
    for seed in range(study.seeds):
        for env_map in MAPS:
            wanted = collecting(env_map, seed, study.out)
            if not wanted.out.exists():
                collect(wanted, display, ALSO)
            lines += [described(path) for path in (wanted.out, *(beside(wanted.out, quality) for quality in ALSO))]
            write_json_lines(study.results, lines)


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
