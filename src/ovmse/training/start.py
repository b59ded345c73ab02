"""How a run begins, or goes on: its directory, its fixed parts, and its first states."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PRNGKeyArray

from ovmse.config import Config
from ovmse.core.settings import describe
from ovmse.data.profile import profile
from ovmse.data.split import take
from ovmse.data.zarr_files import digest
from ovmse.learning import learner
from ovmse.learning.parallel import SeedBatches, over_seeds, padded_seeds, shared, split
from ovmse.learning.phases import SeedState, begin
from ovmse.learning.play import make_collect
from ovmse.learning.replay import from_flat
from ovmse.runs import checkpoints, directory, trusted_code
from ovmse.system import files, provenance
from ovmse.system.clock import Clock, Interval
from ovmse.system.signals import Stop
from ovmse.training import (
    evaluation_cost,
    log_evaluation,
    memory,
    monitor,
    online_log,
    played_ahead,
    rollback,
    settings_check,
    without_play,
)
from ovmse.training.continuation import check_phase, goes_on, note_settings
from ovmse.training.display import Display
from ovmse.training.resume import restore
from ovmse.training.run import Run, Task


def start_run(task: Task, display: Display, stop: Stop, resume: bool, inexact: bool) -> tuple[Run, SeedBatches]:
    """Make the first states of a run in `task.config.out`, or restore those of its newest checkpoint.

    inexact: whether it may go on elsewhere than it ran before. The caller holds the lock of the directory.
    """
    config, method, spec, out = task.config, task.method, task.spec, task.config.out
    assert out is not None
    described = json.loads(
        json.dumps(describe(config) | {"method_value": describe(method), "env_spec": spec.described()})
    )
    checkpoints.tidy(out)
    again = goes_on(described, out, resume)
    saved = checkpoints.newest(out, display.say) if again else None
    run = make_run(task, out, described, display, stop)
    if saved is not None:
        checkpoints.check_own(saved, described)
        checkpoints.check_content(saved, config.seeds)
        check_phase(saved, described)
        checkpoints.check_same(saved, run.ran_on, inexact, display.say)
        checkpoints.drop_damaged(out, saved)
        display.say(f"going on from {saved.path}")
        like = jax.eval_shape(lambda key: first_state(task, key), jax.random.key(0))
        note_settings(out, described, display.say)
        return run, restore(run, saved, like)
    if again:
        display.say(f"{out}: the run ended before its first checkpoint; it begins anew")
    else:
        directory.create(out)
    files.make_folder(out / checkpoints.FOLDER)  # from here on its absence is a loss
    files.write_json(out / "config.json", described)
    files.write_json(out / "versions.json", provenance.run_versions())
    files.write_json_lines(out / "metrics.jsonl", [])
    if task.dataset is not None:
        held_out = {} if task.split is None else {"held_out_episodes": len(task.split.held_out)}
        files.write_json(out / "dataset.json", profile(task.dataset) | held_out)
    if config.keep_experience:
        run.online_logs.extend(online_log.open_writers(out, config, spec, [0] * config.seeds if again else None))
    display.say(memory.in_words(task.needed_bytes))
    for line in played_ahead.in_words(config):
        display.say(line)
    if task.env is not None and config.round is None:
        display.say(evaluation_cost.in_steps(config, method, spec))
    if task.env is None and config.round is None:
        display.say(without_play.in_words(task.split, spec))
    for line in settings_check.warnings(config, spec, method, task.dataset):
        display.say(line)
    keys = split(seed_keys(config), config.seeds)
    return run, over_seeds(lambda key: first_state(task, key), config.seeds, keep=True)(keys)


def make_run(task: Task, out: Path, described: dict[str, Any], display: Display, stop: Stop) -> Run:
    """What a run holds fixed, with nothing in its record yet."""
    config, dataset, spec, split_by = task.config, task.dataset, task.spec, task.split
    log, held_out = None if dataset is None else dataset.flat, None
    if log is not None and split_by is not None:
        held_out = log_evaluation.make(config, task.method, spec, take(log, split_by.held_out))
        log = take(log, split_by.kept)
    same = {
        "own_code": trusted_code.checksums(config),
        "method": described["method_value"],
        "env": described["env_spec"],
        "data": None if dataset is None else dataset.metadata.checksum or digest(dataset.flat),
    }
    clock = Clock()
    collect = None if task.env is None else make_collect(config, task.env, task.method, display.say, clock)
    keys, longest = seed_keys(config), 0 if log is None else int(log["length"].max())
    return Run(
        settings=checkpoints.settings_of(described),
        task=task,
        out=out,
        ran_on=provenance.run_conditions() | same,
        collect=collect,
        ahead=played_ahead.make(collect, config),
        evaluation_keys=split(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), config.seeds),
        log_evaluation=held_out,
        data=None if log is None else shared(from_flat(log, spec), config.seeds),
        watch=over_seeds(lambda pair, data: monitor.watch(pair[0], pair[1], data, longest), config.seeds, keep=True),
        send_back=over_seeds(lambda state, back: rollback.send_back(config, state, back), config.seeds),
        rows=[],
        listeners=[],
        online_logs=[],
        due=Interval(60 * config.checkpoint_minutes),
        clock=clock,
        display=display,
        stop=stop,
    )


def seed_keys(config: Config) -> Key[Array, " seeds"]:
    """One key per seed, those that only fill up the devices included."""
    return jnp.stack([jax.random.key(config.seed + i) for i in range(padded_seeds(config.seeds))])


def first_state(task: Task, key: PRNGKeyArray) -> SeedState:
    """One seed's state before its first update."""
    k_init, k_learn = jax.random.split(jax.random.fold_in(key, 0))
    return begin(learner.init(task.config.learner, task.spec, k_init, task.method.parts), k_learn)
