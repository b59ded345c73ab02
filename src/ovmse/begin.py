"""How a run begins, or goes on: its directory, its fixed parts, and its first states."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ovmse import experience, guard, learner, machine, monitor, phases, rundir, trust
from ovmse.config import describe
from ovmse.data import Dataset
from ovmse.display import Display
from ovmse.errors import UserError
from ovmse.interrupt import Stop
from ovmse.phases import Offline
from ovmse.prepare import Task
from ovmse.replay import from_dataset
from ovmse.resume import restore
from ovmse.run import Run, State
from ovmse.saved import check_same, drop_damaged, is_unfinished, newest, tidy
from ovmse.seeds import Rounds, over_seeds, shared, slots, split
from ovmse.worlds import make_world


def goes_on(described: dict[str, Any], out: Path, resume: bool) -> bool:
    """Whether a run goes on in `out`, asked to or because the same run began there, rather than begins.

    Raises `UserError` where it can do neither.
    """
    if (out / "summary.json").exists():
        raise UserError(f"{out} is in use: it holds a run that has ended (ovmse report {out}). Choose another --out.")
    if not is_unfinished(out):
        if resume:
            raise UserError(f"{out} holds no interrupted run: none began there.")
        return False
    there = rundir.read_json(out / "config.json") | {"out": str(out)}
    differ = [] if resume else rundir.differences(there, described | {"out": str(out)})
    if differ:
        raise UserError(
            f"{out} is in use: it holds an unfinished run with other settings: {'; '.join(differ)}. Choose another "
            f"--out, or go on with that run: ovmse train --resume {out}"
        )
    return True


def begin(task: Task, display: Display, stop: Stop, resume: bool, inexact: bool) -> tuple[Run, Rounds]:
    """Make the first states of a run in `task.config.out`, or restore those of its newest checkpoint.

    inexact: whether it may go on elsewhere than it ran before. The caller holds the lock of the directory.
    """
    config, spec, method, out = task.config, task.env.spec, task.method, task.config.out
    assert out is not None
    described = json.loads(
        json.dumps(describe(config) | {"method_value": describe(method), "env_spec": spec._asdict()})
    )
    tidy(out)
    again = goes_on(described, out, resume)
    saved = newest(out, display.say) if again else None
    same = {
        "own_code": trust.checksums(config),
        "method": described["method_value"],
        "env": described["env_spec"],
        "data": data_checksum(task.dataset),
    }
    ran_on = rundir.ran_on() | same
    if saved is not None:
        check_same(saved, ran_on, inexact, display.say)
        drop_damaged(out, saved)
    keys = jnp.stack([jax.random.key(config.seed + i) for i in range(slots(config.seeds))])
    run = Run(
        task=replace(task, dataset=None),
        out=out,
        ran_on=ran_on,
        world=make_world(config, task.env, method, display.say),
        data=None if task.dataset is None else shared(from_dataset(task.dataset), config.seeds),
        watch=over_seeds(lambda pair, data: monitor.watch(pair[0], pair[1], data, spec), config.seeds, keep=True),
        send_back=over_seeds(
            lambda state, back: state._replace(inner=guard.send_back(config, state.inner, back)), config.seeds
        ),
        evaluation_keys=split(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), config.seeds),
        rows=[],
        clock=machine.Clock(),
        display=display,
        stop=stop,
        due=machine.Interval(60 * config.checkpoint_minutes),
        experience=[],
    )
    if saved is not None:
        display.say(f"going on from {saved.path}")
        return run, restore(run, saved, jax.eval_shape(lambda key: start(task, key), keys[0]))
    if again:
        display.say(f"{out}: the run ended before its first checkpoint; it begins anew")
    else:
        rundir.create(out)
    rundir.write_json(out / "config.json", described)
    rundir.write_json(out / "versions.json", rundir.versions())
    rundir.rewrite(out / "metrics.jsonl", [])
    if config.keep_experience:
        run.experience.extend(experience.open_writers(out, config, spec, [0] * config.seeds if again else None))
    if task.dataset is not None:
        from ovmse.data.inspect import profile  # here, because it imports matplotlib

        rundir.write_json(out / "dataset.json", profile(task.dataset))
    held, compiling = task.needed_bytes, task.needed_bytes["compiling"]
    text = f"about {(sum(held.values()) - compiling) / machine.GIB:.2f} GiB of memory will be needed"
    more = f", {sum(held.values()) / machine.GIB:.2f} where programs have to be compiled first" if compiling else ""
    display.say(text + more)
    return run, over_seeds(lambda key: start(task, key), config.seeds, keep=True)(split(keys, config.seeds))


def data_checksum(dataset: Dataset | None) -> str | None:
    """What tells one dataset from another; None without one."""
    return None if dataset is None else dataset.metadata.checksum


def start(task: Task, key: jax.Array) -> State:
    """One seed's state before the first update."""
    k_init, k_learn = jax.random.split(jax.random.fold_in(key, 0))
    fresh = learner.init(task.config.learner, task.env.spec, k_init, task.method.parts)
    return State(Offline(fresh, k_learn), phases.no_tally())
