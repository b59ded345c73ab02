"""Environment steps per second of playing; the floor and its share are of the agents' network alone."""

import numpy as np

from benchmarks import programs
from benchmarks.floors import Floor, acting_products, sizes
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record
from benchmarks.timing import interleaved, spread
from ovmse import envs
from ovmse.envs.protocol import Environment
from ovmse.methods import METHODS

SIDE_BY_SIDE = 8, 32
EPISODES = 64  # of one call, so that their lengths average out


def collecting(setting: Setting, env: Environment, episodes: int) -> list[Record | Ratio]:
    """Play with the default network, exploring and greedily, and with one of a single unit: that is the environment."""
    config = programs.config_for(env.spec, batch=32, seeds=1)
    rounds, explore = max(1, EPISODES // episodes), METHODS["scratch"]
    ways = {
        "collect": (config, explore),
        "play greedily": (config, None),
        "environment alone": (programs.of_one_unit(config), explore),
    }
    calls, lengths = {}, {}
    for name, (used, method) in ways.items():
        calls[name] = programs.plays(used, env, method, episodes, rounds)
        lengths[name] = np.asarray(calls[name](1)[0].episodes.valid.sum(axis=-1))  # [seed, round, episode]
    taken = interleaved(calls, setting.options.repeats, setting.options.seconds)
    records: list[Record | Ratio] = []
    for name, (seconds, _) in taken.items():
        steps = int(lengths[name].sum())
        rate = spread([steps / s for s in seconds])
        floor = Floor(acting_products(sizes(env.spec, ways[name][0].learner))).seconds(setting.ceiling)
        records.append(
            Record(
                part="rollout",
                name=name,
                env=env.spec.name,
                batch=episodes,
                seeds=1,
                cores=setting.cores,
                unit="env steps/s",
                value=rate,
                floor_seconds=floor,
                share=floor * rate.median,
                notes={
                    "mean_length": float(lengths[name].mean()),
                    "stepped_over_real_steps": float(lengths[name].max(axis=-1).sum()) * episodes / steps,
                },
            )
        )
    return records


def jobs(options: Options, process: Process) -> list[Job]:
    """On one core or an accelerator: every map, with few and with many episodes side by side."""
    if not process.single:
        return []
    counts = SIDE_BY_SIDE[:1] if options.quick else SIDE_BY_SIDE
    return [_job(name, episodes) for name in options.maps for episodes in counts]


def _job(name: str, episodes: int) -> Job:
    def run(setting: Setting) -> list[Record | Ratio]:
        return collecting(setting, envs.make(f"smax:{name}"), episodes)  # type: ignore[arg-type]

    return Job(f"rollout, {name}, {episodes} episodes side by side", run)
