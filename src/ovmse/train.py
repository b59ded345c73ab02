"""One run, top to bottom: prepare, pretrain, hand over, fine-tune, write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, learner, machine, phases, record, rundir
from ovmse.config import Config
from ovmse.display import Display
from ovmse.networks import Team
from ovmse.phases import Offline, Online
from ovmse.replay import Replay
from ovmse.run import Run, State, after_chunk, begin, env_steps, judge, monitor, play, prepare, save_if_stopped
from ovmse.seeds import each_seed, over_seeds, slots

SECONDS_PER_CHUNK = 2.0  # how long a compiled chunk runs before the display and Ctrl-C are served


@dataclass(frozen=True)
class Result:
    """What a run leaves. rows: the metrics, one per evaluation and seed. teams: the networks, leading axis seed."""

    out: Path
    rows: list[dict[str, Any]]
    handover: dict[str, Any] | None
    teams: Team


def train(config: Config, display: Display | None = None, resume: bool = False) -> Result:
    """Run a configuration to its end and write everything into ``config.out``.

    Raises `UserError` on bad input before anything is written, and `Interrupted` after Ctrl-C, with the run saved;
    `resume` goes on from there.
    """
    return finish(*play_out(config, display, resume))


def play_out(config: Config, display: Display | None = None, resume: bool = False) -> tuple[Run, State]:
    """All phases of a run, up to its last state."""
    machine.use()
    task = prepare(config)
    run, state = begin(task, display or Display(), resume)
    with run.stop, run.display:
        if task.method.offline_loss is not None and isinstance(state.inner, Offline):
            state = take_over(run, state) if config.pretrained else pretrain(run, state)
        if task.method.online_target is not None:
            if isinstance(state.inner, Offline):
                state = hand_over(run, state)
            state = finetune(run, state)
    return run, state


def pretrain(run: Run, state: State) -> State:
    """The offline phase: gradient updates on the dataset, evaluated every so often."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method

    def learn_some(state: State, data: Replay, updates: jax.Array) -> tuple[State, None]:
        assert isinstance(state.inner, Offline)
        inner, new = phases.learn_offline(config, spec, method, state.inner, data, updates)
        return State(inner, jax.tree.map(jnp.add, state.tally, new), state.memory), None

    learn = over_seeds(learn_some, config.seeds)
    done, pace = int(state.inner.learner.updates[0]), machine.Pace(SECONDS_PER_CHUNK, first=20)
    run.display.phase("offline", done, config.offline_updates, "updates")
    if done == 0:
        state = judge(run, state)
    while done < config.offline_updates:
        mark = next_mark(done, config.evaluate_every_updates, config.offline_updates)
        updates = min(pace.amount(), mark - done)
        with run.clock.measure("offline") as chunk:
            state, _ = jax.block_until_ready(learn(state, run.data, jnp.int32(updates)))
            chunk.updates = config.seeds * updates
        pace.note(updates, chunk)
        done += updates
        after_chunk(run, state, done)
        if done >= mark:
            state = judge(run, state)
        save_if_stopped(run, state)
    checkpoint.save(run.out / "offline.safetensors", record.first_seeds(state.inner.learner.team, config.seeds))
    return state


def take_over(run: Run, state: State) -> State:
    """The teams and metrics of an earlier run's offline phase, in place of a phase of one's own."""
    config, inner = run.task.config, state.inner
    assert config.pretrained is not None
    rows = [row for row in rundir.read_rows(config.pretrained / "metrics.jsonl") if row["phase"] == "offline"]
    there = sorted({row["seed"] for row in rows})
    wanted = [config.seed + i for i in range(config.seeds)]
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(there), *x.shape[1:]), x.dtype), inner.learner.team)
    teams = checkpoint.restore(config.pretrained / "offline.safetensors", like)
    order = np.asarray([there.index(seed) for seed in wanted])
    order = np.resize(order, slots(config.seeds))  # the extra seeds that fill the devices repeat the first
    team = jax.tree.map(lambda x: x[order], teams)
    checkpoint.save(run.out / "offline.safetensors", record.first_seeds(team, config.seeds))
    rows = [row for row in rows if row["seed"] in wanted]
    rundir.append(run.out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    updates = jnp.full_like(inner.learner.updates, max(row["updates"] for row in rows))
    fresh = jax.vmap(lambda t: learner.restart(config.learner, t))(team)
    return state._replace(inner=Offline(fresh._replace(updates=updates), inner.key))


def hand_over(run: Run, state: State) -> State:
    """The switch: the same greedy episodes just before and just after must agree exactly."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    team, memory = state.inner.learner.team, state.memory
    switch = each_seed(lambda inner, data: phases.handover(config, spec, method, inner, data), config.seeds)
    pretrained = method.offline_loss is not None
    before = play(run, team) if pretrained else None
    watched = monitor(run, team)
    if pretrained and method.memory is not None and watched is not None:
        memory = watched
    inner: Online = switch(state.inner, run.data)
    if before is not None:
        after = play(run, inner.learner.team)
        found = record.handover_report(before, after, config, spec.has_win)
        rundir.write_json(run.out / "handover.json", found)
        run.display.handover(found)
    return State(inner, state.tally, memory)


def finetune(run: Run, state: State) -> State:
    """The online phase: play and learn, evaluated every so many environment steps."""
    config = run.task.config
    budget, pace = config.online_env_steps, machine.Pace(SECONDS_PER_CHUNK, first=200)
    steps = env_steps(run, state)
    run.display.phase("online", int(steps.min()), budget, "env steps")
    if steps.min() == 0:
        state = judge(run, state)
    while steps.min() < budget:
        mark = next_mark(int(steps.min()), config.evaluate_every_env_steps, budget)
        until = min(mark, int(steps.min()) + pace.amount())
        with run.clock.measure("online") as chunk:
            assert isinstance(state.inner, Online)
            inner, new = jax.block_until_ready(run.world.finetune(state.inner, run.data, until))
            state = State(inner, jax.tree.map(jnp.add, state.tally, new), state.memory)
            now = env_steps(run, state)
            chunk.env_steps, chunk.updates = int((now - steps).sum()), int(new.updates[: config.seeds].sum())
        pace.note(int(now.min() - steps.min()), chunk)
        steps = now
        after_chunk(run, state, min(budget, int(steps.min())))
        if steps.min() >= mark:
            state = judge(run, state)
        save_if_stopped(run, state)
    return state


def finish(run: Run, state: State) -> Result:
    """Write the teams and the summary."""
    config = run.task.config
    teams = record.first_seeds(state.inner.learner.team, config.seeds)
    checkpoint.save(run.out / "teams.safetensors", teams)
    rundir.write_json(run.out / "summary.json", run.clock.summary())
    for leftover in ("interrupted.json", "interrupted.safetensors"):
        (run.out / leftover).unlink(missing_ok=True)
    handover = rundir.read_json(run.out / "handover.json")
    run.display.finish(run.out, run.rows, run.clock.summary())
    return Result(run.out, run.rows, handover, teams)


def next_mark(done: int, every: int, end: int) -> int:
    """Where the next evaluation is due."""
    return min(end, (done // every + 1) * every)
