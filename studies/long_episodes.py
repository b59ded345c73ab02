"""Every method on short games and on one of 60 steps with a single reward at its end: does any diverge?

    python studies/long_episodes.py --out runs/long-episodes

Three seeds each, every method as it comes. No return is above 11 (climbing) or 8 (two_step), so that a Q_tot far beyond
says that a method diverges. The 60 steps are the two-step game with 58 steps of waiting between its two choices. Each
finished cell adds its line to ``results.jsonl``, and is not run again.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from cells import finished

import ovmse
from ovmse import envs
from ovmse.config import Config, LearnerConfig
from ovmse.core.types import Episode
from ovmse.data.dataset import Dataset
from ovmse.data.flat import pack
from ovmse.methods import METHODS
from ovmse.system.files import append_json_lines
from ovmse.training.train import train

GAMES: dict[str, dict[str, Any]] = {"two_step after 58 steps": {"delay": 58}, "climbing": {}, "two_step": {}}


@dataclass(frozen=True)
class Study:
    """Where the runs go, and how long they are."""

    methods: tyro.conf.Positional[tuple[str, ...]] = ()
    """the methods; by default all"""
    out: Path = Path("runs/long-episodes")
    """the directory of the runs and of results.jsonl"""
    seeds: int = 3
    """seeds of each cell, from 0"""
    offline_updates: int = 2_000
    """gradient updates of the offline phase"""
    online_env_steps: int = 12_000
    """environment steps of the online phase, per seed"""


def log(path: Path, game: str, settings: dict[str, Any], episodes: int = 64) -> Path:
    """Uniformly random play, and each of the game's plans that matter: its first and its last joint action."""
    env = envs.make(f"matrix:{game}", **settings)
    limit, rng = env.spec.episode_limit, np.random.default_rng(0)
    joint = list(itertools.product(range(env.spec.n_actions), repeat=2))
    played, won = [], []
    for k in range(episodes):
        plan = rng.integers(0, env.spec.n_actions, (limit, 2))
        plan[0], plan[-1] = joint[k % len(joint)], joint[k // len(joint) % len(joint)]
        state, view = env.reset(jax.random.key(0))
        views, results = [view], []
        for action in plan:
            state, view, result = env.step(jax.random.key(0), state, action)
            views.append(view)
            results.append(result)
        rows = [np.stack([np.asarray(getattr(v, name)) for v in views]) for name in ("obs", "state", "avail")]
        ends = [np.array([getattr(x, name) for x in results]) for name in ("reward", "terminal")]
        played.append(Episode(*rows, plan.astype(np.int32), *ends, np.ones(limit, bool)))
        won.append(bool(results[-1].won))
    stacked = Episode(*(np.stack(x) for x in zip(*played, strict=True)))
    Dataset.write(path, spec=env.spec, **pack(stacked, np.array(won)), behaviour="random, and every plan that matters")
    return path


def main(study: Study) -> None:
    """Run every cell that has no line yet."""
    results = study.out / "results.jsonl"
    done = finished(results, "game", "method")
    for name, settings in GAMES.items():
        game, data = name.split()[0], study.out / f"data-{name.replace(' ', '-')}"
        if not data.exists():
            log(data, game, settings)
        for method in study.methods or METHODS:
            if (name, method) in done:
                continue
            config = Config(
                env=f"matrix:{game}",
                env_settings=tuple(f"{key}={value}" for key, value in settings.items()),
                method=method,
                data=str(data),
                out=study.out / f"{name}-{method}".replace(" ", "-"),
                seeds=study.seeds,
                offline_updates=study.offline_updates,
                online_env_steps=study.online_env_steps if settings else study.online_env_steps // 4,
                evaluate_every_updates=study.offline_updates // 4,
                evaluate_every_env_steps=(study.online_env_steps if settings else study.online_env_steps // 4) // 4,
                evaluate_episodes=8,
                learner=LearnerConfig(hidden=32, learning_rate=0.001, td_lambda=0.6 if settings else 0.0),
            )
            line: dict[str, Any] = {"game": name, "method": method}
            try:
                rows = train(config).rows
                line |= {
                    "largest_q_tot": max(abs(row["q_tot"]) for row in rows if row["q_tot"] is not None),
                    "final_return": [row["return"] for row in rows[-study.seeds :]],
                }
            except ovmse.UserError as error:
                line["error"] = str(error)
            append_json_lines(results, [line])


if __name__ == "__main__":
    main(tyro.cli(Study))
