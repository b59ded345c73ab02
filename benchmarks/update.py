"""The time of one gradient update, by loss, method, map, batch and seeds, against its floor."""

import dataclasses
from functools import partial
from typing import Any

from benchmarks import programs
from benchmarks.floors import Floor, update_floor
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record, timed
from benchmarks.sizes import (
    BATTLE_LIMIT,
    FULL_STEPS,
    battle_lengths,
    dataset_episodes,
    full_lengths,
    map_spec,
    synthetic,
)
from benchmarks.timing import interleaved, ratios, spread
from ovmse import envs
from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.learning.parallel import CORES_PER_SEED
from ovmse.learning.replay import row_bytes
from ovmse.methods import METHODS
from ovmse.methods.losses import CQL, SquaredError
from ovmse.methods.method import Method

LOSSES: dict[str, Any] = {
    "plain": SquaredError(),
    "per_agent": CQL(form="per_agent"),
    "counterfactual": CQL(form="counterfactual"),
    "joint": CQL(form="joint"),
}
"""Losses of an offline update. Plain is also what an online update minimises."""
ONLINE = {"plain": "scratch", "plain and data": "finetune", "ovmse": "ovmse"}
"""Methods of an online update, by what is told apart."""
GOALS = {"counterfactual": "≤ 2.5", "plain and data": "within 3 %"}
"""What an update with that loss is to cost, over a plain one; and an OVMSE update, over one of that kind."""
REPLAY_EPISODES = 64
SEEDS_MAPS = ("3m", "5m_vs_6m")
ROUND_UPDATES = 16  # updates of one call of an online program
ROUND = 8  # episodes of a round of play, and updates that follow
ALONE = "one seed, offline update", f"one seed, round of {ROUND} battles and {ROUND} updates"
SHARED_MAPS = ("3m", "2s3z", "5m_vs_6m")


def lengths_for(kind: str, row: int) -> Any:
    """Steps of a synthetic dataset's episodes [E], all as long as the limit (full) or as battles last (battles)."""
    if kind == "full":
        return full_lengths(dataset_episodes(row, FULL_STEPS), FULL_STEPS)
    return battle_lengths(dataset_episodes(row, 31), BATTLE_LIMIT)


def sizes_of(env: str, kind: str) -> tuple[EnvSpec, Any]:
    """A map's sizes and the lengths of its dataset."""
    spec = map_spec(env, FULL_STEPS if kind == "full" else BATTLE_LIMIT)
    return spec, lengths_for(kind, row_bytes(spec))


def floor_of(config: Config, spec: EnvSpec, lengths: Any, loss: Any = None) -> Floor:
    """The floor of one update of every seed, on batches of episodes of the mean length."""
    form = loss.form if isinstance(loss, CQL) else None
    samples = loss.samples if isinstance(loss, CQL) else 0
    batch = config.batch_episodes
    one = update_floor(spec, config.learner, float(lengths.mean()) * batch, batch, form, samples)
    return Floor(*(config.seeds * x for x in one))


def one_update(
    setting: Setting, config: Config, floor: Floor, name: str, seconds: list[float], notes: dict[str, Any]
) -> Record:
    """The record of one update of every seed of a configuration. seconds: of one update, by repeat."""
    return timed(
        spread(seconds),
        floor,
        setting.ceiling,
        part="update",
        name=name,
        env=config.env,
        batch=config.batch_episodes,
        seeds=config.seeds,
        cores=setting.cores,
        notes=notes,
    )


def losses(setting: Setting, spec: EnvSpec, lengths: Any, batch: int, kind: str) -> list[Record | Ratio]:
    """Offline updates with every loss in turns, one seed; and how much more than a plain one each takes."""
    config = programs.config_for(spec, batch=batch, seeds=1)
    data = programs.data_of(synthetic(spec, lengths), seeds=1)
    calls = {
        name: programs.offline_updates(config, spec, Method(offline_loss=loss), data) for name, loss in LOSSES.items()
    }
    taken = interleaved(calls, setting.options.repeats, setting.options.seconds)
    records: list[Record | Ratio] = []
    for name, (seconds, updates) in taken.items():
        padded = programs.padding(config, spec, Method(offline_loss=LOSSES[name]), data)
        notes = {"updates_per_repeat": updates, "padded_over_real_rows": padded}
        floor = floor_of(config, spec, lengths, LOSSES[name])
        records.append(one_update(setting, config, floor, f"{name}, {kind}", seconds, notes))
    for name in [name for name in LOSSES if name != "plain"]:
        more, goal = ratios(taken[name][0], taken["plain"][0]), GOALS.get(name, "")
        what = f"{name} ÷ plain, {kind}, batch {batch}"
        records.append(Ratio("update", what, spec.name, setting.cores, more, goal))
    return records


def online(setting: Setting, spec: EnvSpec, lengths: Any, batch: int, kind: str) -> list[Record | Ratio]:
    """Online updates of OVMSE and of plain QMIX in turns, one seed: the memory should cost nothing."""
    steps = programs.replay_steps(lengths, REPLAY_EPISODES)
    config = programs.config_for(
        spec, batch=batch, seeds=1, replay_env_steps=max(steps, batch), updates_per_collect=ROUND_UPDATES
    )
    data = programs.data_of(synthetic(spec, lengths), seeds=1)
    episodes = min(REPLAY_EPISODES, len(lengths))
    calls = {
        name: programs.online_updates(config, spec, METHODS[method], data, episodes) for name, method in ONLINE.items()
    }
    taken = interleaved(calls, setting.options.repeats, setting.options.seconds)
    records: list[Record | Ratio] = []
    for name, (seconds, rounds) in taken.items():
        notes = {"updates_per_repeat": rounds * ROUND_UPDATES}
        each = [s / ROUND_UPDATES for s in seconds]
        floor = floor_of(config, spec, lengths)
        records.append(one_update(setting, config, floor, f"online {name}, {kind}", each, notes))
    for other in [name for name in ONLINE if name != "ovmse"]:
        more, goal = ratios(taken["ovmse"][0], taken[other][0]), GOALS.get(other, "")
        what = f"ovmse ÷ {other}, online, {kind}, batch {batch}"
        records.append(Ratio("update", what, spec.name, setting.cores, more, goal))
    return records


def seeds(
    setting: Setting, spec: EnvSpec, lengths: Any, batch: int, kind: str, counts: tuple[int, ...]
) -> list[Record | Ratio]:
    """Plain updates of several seeds in one program, in turns; a figure is of one update of every seed."""
    dataset = synthetic(spec, lengths)
    configs = {n: programs.config_for(spec, batch=batch, seeds=n) for n in counts}
    plain = Method(offline_loss=SquaredError())
    calls = {
        str(n): programs.offline_updates(config, spec, plain, programs.data_of(dataset, n))
        for n, config in configs.items()
    }
    taken = interleaved(calls, setting.options.repeats, setting.options.seconds)
    records: list[Record | Ratio] = [
        one_update(
            setting,
            config,
            floor_of(config, spec, lengths),
            f"plain, {kind}",
            taken[str(n)][0],
            {"updates_per_repeat": taken[str(n)][1]},
        )
        for n, config in configs.items()
    ]
    if 1 in counts:
        for n in counts:
            if n != 1:
                more = ratios(taken[str(n)][0], taken["1"][0])
                what = f"{n} seeds ÷ 1 seed, {kind}, batch {batch}"
                goal = f"≤ {1.025 * n:.1f}" if setting.cores == 1 else ""
                records.append(Ratio("update", what, spec.name, setting.cores, more, goal))
    return records


def alone(setting: Setting, spec: EnvSpec, lengths: Any, batch: int, kind: str) -> list[Record | Ratio]:
    """One seed with all cores of the process: an offline update, and a round of play and learning from scratch."""
    config = programs.config_for(spec, batch=batch, seeds=1, episodes_per_collect=ROUND, updates_per_collect=ROUND)
    config = dataclasses.replace(config, replay_env_steps=programs.replay_steps(lengths, REPLAY_EPISODES))
    data, env = programs.data_of(synthetic(spec, lengths), seeds=1), envs.make(spec.name)
    calls = (
        programs.offline_updates(config, spec, Method(offline_loss=SquaredError()), data),
        programs.online_rounds(config, env, METHODS["scratch"])[0],  # type: ignore[arg-type]
    )
    taken = interleaved(dict(zip(ALONE, calls, strict=True)), setting.options.repeats, setting.options.seconds)
    sizes: dict[str, Any] = {"env": spec.name, "batch": batch, "seeds": 1, "cores": setting.cores, "unit": "s"}
    return [Record(part="update", name=name, value=spread(taken[name][0]), **sizes) for name in ALONE]


def jobs(options: Options, process: Process) -> list[Job]:
    """On one core (or an accelerator): every loss and method; everywhere: several seeds, and one with all cores."""
    found = []
    for env in options.maps:
        for batch in options.batches:
            if process.single:
                found.append(_job(losses, env, batch, "full"))
                if not options.quick:
                    found.append(_job(losses, env, batch, "battles"))
                if batch == options.batches[0] and not options.quick:
                    found.append(_job(online, env, batch, "battles"))
            if env in SHARED_MAPS and batch == options.batches[0] and not options.quick:
                found.append(_job(alone, env, batch, "battles"))
            if env in SEEDS_MAPS and not options.quick:
                counts = options.seeds if process.cores else tuple(sorted({*options.seeds, 32}))
                found.append(_job(partial(seeds, counts=counts), env, batch, "full", "seeds"))
    return found


def _job(function: Any, env: str, batch: int, kind: str, name: str = "") -> Job:
    def run(setting: Setting) -> list[Record | Ratio]:
        return function(setting, *sizes_of(env, kind), batch=batch, kind=kind)

    return Job(f"update, {name or function.__name__}, {env}, batch {batch}, {kind}", run, weight=batch / 32)


def cores_ratios(records: list[Record]) -> list[Ratio]:
    """How many times as fast several seeds, and one alone, are with all cores as with one, from the medians of two
    processes."""
    several = [r for r in records if r.part == "update" and r.name == "plain, full" and r.seeds > 1]
    single = [r for r in records if r.part == "update" and r.name in ALONE]
    found = []
    for one in (r for r in several + single if r.cores == 1):
        for many in several + single:
            same = many[:5] == one[:5]  # all that tells what was measured, up to the seeds
            if same and many.cores > 1:
                faster = spread([one.value.median / many.value.median])
                kind = f"{one.seeds} seeds" if one.seeds > 1 else one.name
                what = f"speed with {many.cores} cores ÷ with 1, {kind}, batch {one.batch}"
                goal = 0.9 * many.cores if one.seeds > 1 else 0.8 * CORES_PER_SEED
                found.append(Ratio("update", what, one.env, many.cores, faster, f"≥ {goal:.1f}"))
    return found
