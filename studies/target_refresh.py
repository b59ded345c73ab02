"""How fast the target network should follow: one setting after the other on four environments, on equal seeds.

    python studies/target_refresh.py --out runs/target-refresh

Question: which `target_rate` (or number of updates between hard copies) is a default for short battles, long sparse
episodes and episodes that a time limit cuts? Outcome: the mean online return. Each finished cell adds its line to
``results.jsonl``, and is not run again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cells import finished

from ovmse.config import Config, LearnerConfig
from ovmse.system.files import append_json_lines
from ovmse.training.train import train

SETTINGS: dict[str, dict[str, Any]] = {
    "copy every 200": {"target_every_updates": 200},
    "copy every 50": {"target_every_updates": 50},
    "rate 0.01": {"target_rate": 0.01},
    "rate 0.02": {"target_rate": 0.02},
    "rate 0.05": {"target_rate": 0.05},
}
EXPLORE = ("explore.epsilon=linear(1.0,0.05,0.3)",)
TASKS: dict[str, dict[str, Any]] = {
    "two_step, 58 steps of waiting": {
        "env": "matrix:two_step",
        "env_settings": ("delay=58",),
        "method": "scratch",
        "change": EXPLORE,
        "online_env_steps": 30_000,
        "evaluate_every_env_steps": 3_000,
        "evaluate_episodes": 8,
    },
    "simple_spread": {
        "env": "pettingzoo:mpe2.simple_spread_v3",
        "method": "scratch",
        "change": EXPLORE,
        "online_env_steps": 20_000,
        "evaluate_every_env_steps": 2_000,
        "evaluate_episodes": 64,
    },
    "3m": {
        "env": "smax:3m",
        "data": "smax-3m-medium",
        "method": "finetune",
        "offline_updates": 1_000,
        "online_env_steps": 20_000,
        "evaluate_every_env_steps": 2_000,
    },
    "2s3z": {
        "env": "smax:2s3z",
        "method": "scratch",
        "change": EXPLORE,
        "online_env_steps": 80_000,
        "episodes_per_collect": 16,
        "evaluate_every_env_steps": 8_000,
        "evaluate_episodes": 64,
    },
}


@dataclass(frozen=True)
class Study:
    """Where the runs go, and how many seeds each has."""

    out: Path = Path("runs/target-refresh")
    """the directory of the runs and of results.jsonl"""
    seeds: int = 3
    """seeds of each cell, from 0"""


def main(study: Study) -> None:
    """Run every cell that has no line yet."""
    results = study.out / "results.jsonl"
    done = finished(results, "task", "setting")
    for task, settings in TASKS.items():
        for setting, target in SETTINGS.items():
            if (task, setting) in done:
                continue
            learner = LearnerConfig(learning_rate=0.001 if task == "2s3z" else 0.0005, **target)
            cell = study.out / f"{task}-{setting}".replace(" ", "-").replace(",", "")
            config = Config(out=cell, seeds=study.seeds, learner=learner, **settings)
            found = train(config)
            rows = [row for row in found.rows if row["phase"] == "online"]
            by_seed = [[row["return"] for row in rows if row["seed"] == seed] for seed in range(study.seeds)]
            line = {
                "task": task,
                "setting": setting,
                "updates": max(row["updates"] for row in rows),
                "mean_return": [float(np.mean(x)) for x in by_seed],
                "final_return": [float(np.mean(x[-2:])) for x in by_seed],
            }
            append_json_lines(results, [line])


if __name__ == "__main__":
    main(tyro.cli(Study))
