"""Whole phases as a run does them: environment steps and updates per second, and the time that is not the update."""

import tempfile
from pathlib import Path

from benchmarks import chunks, programs
from benchmarks.child import write_dataset
from benchmarks.floors import Ceiling, update_floor
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record
from benchmarks.timing import Spread, interleaved, spread
from ovmse import envs
from ovmse.config import Config
from ovmse.methods import METHODS
from ovmse.system.clock import Chunk

COLLECTED = 8  # episodes between two rounds of updates
UPDATES = 1, 8  # updates of such a round: one per 8 episodes collected, and one per episode
MAPS, SEEDS = ("3m", "5m_vs_6m"), (1, 2)
ACCELERATOR_SEEDS = 1, 32
ENDLESS = 2**30  # a budget that no run reaches before it is given up
REPLAY_ENV_STEPS = 20_000
EPISODES = 500  # of the dataset of the offline phase
BATCH = 32
GOAL = "< 0.25 with one update per episode"


def config_for(env: str, seeds: int, **changes: object) -> Config:
    """A run without evaluations on the way."""
    usual = {
        "seeds": seeds,
        "batch_episodes": BATCH,
        "episodes_per_collect": COLLECTED,
        "replay_env_steps": REPLAY_ENV_STEPS,
        "online_env_steps": ENDLESS,
        "offline_updates": ENDLESS,
        "evaluate_every_updates": ENDLESS,
        "evaluate_every_env_steps": ENDLESS,
        "evaluate_episodes": BATCH,
    }
    return Config(env=env, **{**usual, **changes})  # type: ignore[arg-type]


def online(setting: Setting, env: str, seeds: int) -> list[Record | Ratio]:
    """The online phase of QMIX from scratch, with few and with many updates per episode.

    What a round takes beside its updates follows from the two: rounds differ in their number of updates alone. (Its
    schedules stand still meanwhile, so that teams play at random in both.)
    """
    phases = {
        u: chunks.phase_chunks(
            config_for(env, seeds, method="scratch", updates_per_collect=u), "online", setting.options.repeats
        )
        for u in UPDATES
    }

    def record(updates: int, name: str, unit: str, value: Spread, **notes: float | str) -> Record:
        label = f"{name}, {updates} update{'s' * (updates > 1)} per {COLLECTED} episodes"
        return Record("online", label, env, BATCH, seeds, setting.cores, unit, value, notes=notes)

    few, many = UPDATES
    round_seconds = {u: spread([c.seconds / c.updates * u * seeds for c in phases[u]]) for u in UPDATES}
    one_update = (round_seconds[many].median - round_seconds[few].median) / (many - few)
    records: list[Record | Ratio] = []
    for u, done in phases.items():
        round_steps = spread([c.env_steps / c.updates * u for c in done])
        beside = spread([1 - u * one_update / (c.seconds / c.updates * u * seeds) for c in done])
        length = round_steps.median / COLLECTED
        records += [
            record(u, "phase", "env steps/s", rates(done, "env_steps"), mean_length=length),
            with_floor(record(u, "phase", "updates/s", rates(done, "updates")), length, setting.ceiling),
            record(u, "time beside the updates", "share", beside, goal=GOAL if u == many else ""),
        ]
    collected = collecting(setting, env, seeds)
    share = spread([collected.median / s.median for s in [round_seconds[many]]])
    return [*records, record(many, "time of collecting alone", "share", share)]


def rates(done: list[Chunk], unit: str) -> Spread:
    """Units of work per second, all seeds together."""
    return spread([getattr(c, unit) / c.seconds for c in done])


def with_floor(record: Record, length: float, ceiling: Ceiling) -> Record:
    """A record of updates per second with the floor of one, on episodes of the given mean length."""
    spec = envs.make(record.env).spec
    floor = update_floor(spec, Config().learner, length * record.batch, record.batch).seconds(ceiling)
    return record._replace(floor_seconds=floor, share=floor * record.value.median)


def collecting(setting: Setting, env: str, seeds: int) -> Spread:
    """Seconds of collecting for one round, all seeds, with nothing else."""
    made = envs.make(env)
    config = config_for(env, seeds)
    play = programs.plays(config, made, METHODS["scratch"], COLLECTED, 1)  # type: ignore[arg-type]
    return spread(interleaved({"": play}, setting.options.repeats, setting.options.seconds)[""][0])


def offline(setting: Setting, env: str, seeds: int) -> list[Record | Ratio]:
    """The offline phase: updates per second of all seeds together."""
    with tempfile.TemporaryDirectory() as folder:
        data, lengths = write_dataset(Path(folder) / "data", env, EPISODES)
        config = config_for(env, seeds, method="offline", data=str(data))
        done = chunks.phase_chunks(config, "offline", setting.options.repeats)
    record = Record("online", "offline phase", env, BATCH, seeds, setting.cores, "updates/s", rates(done, "updates"))
    return [with_floor(record, float(lengths.mean()), setting.ceiling)]


def jobs(options: Options, process: Process) -> list[Job]:
    """With all cores, or on an accelerator."""
    if not process.whole:
        return []
    counts: tuple[int, ...] = SEEDS if process.cores else ACCELERATOR_SEEDS
    counts = counts[:1] if options.quick else counts
    found = []
    for name in options.maps:
        if name in MAPS:
            for seeds in counts:
                found.append(_job("online", name, seeds, weight=4))
                if not options.quick:
                    found.append(_job("offline", name, seeds, weight=2))
    return found


def _job(phase: str, name: str, seeds: int, weight: float) -> Job:
    def run(setting: Setting) -> list[Record | Ratio]:
        return (online if phase == "online" else offline)(setting, f"smax:{name}", seeds)

    return Job(f"{phase} phase, {name}, seeds {seeds}", run, weight)
