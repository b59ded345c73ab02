"""Collecting in an environment that waits, by more and more worker processes; and all of it in ovmse's own process."""

import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record
from benchmarks.sleeper import Sleeper
from benchmarks.timing import spread
from ovmse.config import Config
from ovmse.learning import learner
from ovmse.learning.parallel import SeedBatches, split
from ovmse.learning.play import Actor, make_collect
from ovmse.learning.rollout import Teams
from ovmse.learning.workers import Workers
from ovmse.methods import METHODS

SECONDS = 0.005  # of a step
WORKERS = (1, 2, 4, 8, 16, 32)
WAVES = 4  # episodes that each worker plays in one repeat
OWN = 0  # workers: played in ovmse's own process
BATCH = 8  # episodes of a round there


def actor(config: Config) -> Actor:
    """A team that has not learned anything."""
    team = learner.init(config.learner, Sleeper().spec, jax.random.key(0)).team
    [teams], [key], [zero] = (
        split(tree, 1)
        for tree in (jax.tree.map(lambda x: x[None], Teams(team)), jax.random.key(0)[None], np.zeros(1, np.int32))
    )
    return Actor(teams, key, zero, zero)


def collecting(setting: Setting, workers: int, seconds: float = SECONDS, waves: int = WAVES) -> list[Record | Ratio]:
    """Environment steps per second of some rounds, beside those of as many environments that do nothing but wait."""
    episodes = workers * waves or BATCH
    words = (f"seconds={seconds}",)
    config = Config(
        env="benchmarks.sleeper:Sleeper", env_settings=words, episodes_per_collect=episodes, workers=max(1, workers)
    )
    env, method = Sleeper(seconds), METHODS["scratch"]
    pool = None if workers == OWN else Workers(config, env.spec, method, print)
    play: Callable[..., SeedBatches] = pool or make_collect(config, env, method)
    team = actor(config)
    play([team], 0, None)  # starts the workers, or compiles

    def rate(turn: int) -> float:
        began = time.perf_counter()
        [played] = play([team], turn, None)
        return float(played.episodes.valid.sum()) / (time.perf_counter() - began)

    found = spread([rate(turn) for turn in range(1, setting.options.repeats + 1)])
    if pool is not None:
        pool.pool.close()
    most = max(1, workers) / seconds
    several = f"collecting, {workers} worker{'s' * (workers > 1)}"
    name = "collecting in ovmse's own process" if workers == OWN else several
    notes: dict[str, float | str] = {"workers": workers, "most": most}
    return [
        Record(
            "workers", name, env.spec.name, episodes, 1, setting.cores, "env steps/s", found,
            floor_seconds=1 / most, share=found.median / most, notes=notes,
        )
    ]  # fmt: skip


def jobs(options: Options, process: Process) -> list[Job]:
    """With all cores."""
    if not process.whole:
        return []

    def job(workers: int) -> Job:
        return Job(f"collecting, {workers or 'no'} workers", lambda setting: collecting(setting, workers), 2.0)

    return [job(workers) for workers in (OWN, *WORKERS)]
