"""One run, top to bottom: prepare, pretrain, hand over, fine-tune, write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, experience, guard, learner, machine, metrics, phases, rundir
from ovmse.config import Config
from ovmse.display import Display
from ovmse.networks import Team
from ovmse.phases import Offline, Online
from ovmse.replay import Replay
from ovmse.rollout import Rollout
from ovmse.run import (
    Run,
    State,
    after_chunk,
    begin,
    env_steps,
    judge,
    play,
    prepare,
    save_if_stopped,
    teams,
    updates_of,
)
from ovmse.seeds import Rounds, any_over_seeds, join, over_seeds, slots, split
from ovmse.updates import lengths_of

TURNS_AHEAD = 4  # rounds of play and learning that are handed to the devices at once
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


def play_out(config: Config, display: Display | None = None, resume: bool = False) -> tuple[Run, Rounds]:
    """All phases of a run, up to its last states."""
    machine.use()
    run, states = begin(prepare(config), display or Display(), resume)
    task = run.task
    with run.stop, run.display, experience.kept_on_failure(run.experience):
        if task.method.offline_loss is not None and isinstance(states[0].inner, Offline):
            states = take_over(run, states) if config.pretrained else pretrain(run, states)
        if task.method.online_target is not None:
            if isinstance(states[0].inner, Offline):
                states = hand_over(run, states)
            states = finetune(run, states)
    return run, states


def pretrain(run: Run, states: Rounds) -> Rounds:
    """The offline phase: gradient updates on the dataset, evaluated every so often."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    assert run.data is not None
    lengths = lengths_of(run.data)

    def learn_some(state: State, data: Replay, updates: jax.Array) -> State:
        assert isinstance(state.inner, Offline)
        inner, new = phases.learn_offline(config, spec, method, state.inner, data, updates, lengths)
        return state._replace(inner=inner, tally=jax.tree.map(jnp.add, state.tally, new))

    learn = over_seeds(learn_some, config.seeds)
    done, pace = int(states[0].inner.learner.updates[0]), machine.Pace(SECONDS_PER_CHUNK, first=20)
    run.display.phase("offline", done, config.offline_updates, "updates")
    if done == 0:
        states = judge(run, states)
    while done < config.offline_updates:
        mark = next_mark(done, config.evaluate_every_updates, config.offline_updates)
        updates = min(pace.amount(), mark - done)
        with run.clock.measure("offline") as chunk:
            states = jax.block_until_ready(learn(states, run.data, jnp.int32(updates)))
            chunk.updates = config.seeds * updates
        pace.note(updates, chunk)
        done += updates
        after_chunk(run, states, done)
        if done >= mark:
            states = judge(run, states)
        save_if_stopped(run, states)
    checkpoint.save(run.out / "offline.safetensors", teams(run, states))
    return states


def take_over(run: Run, states: Rounds) -> Rounds:
    """The teams and metrics of an earlier run's offline phase, in place of a phase of one's own."""
    config, state = run.task.config, join(states)
    assert config.pretrained is not None
    rows = [row for row in rundir.read_rows(config.pretrained / "metrics.jsonl") if row["phase"] == "offline"]
    there = sorted({row["seed"] for row in rows})
    wanted = [config.seed + i for i in range(config.seeds)]
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(there), *x.shape[1:]), x.dtype), state.inner.learner.team)
    found = checkpoint.restore(config.pretrained / "offline.safetensors", like)
    order = np.asarray([there.index(seed) for seed in wanted])
    order = np.resize(order, slots(config.seeds))  # the extra seeds that fill the devices repeat the first
    team = jax.tree.map(lambda x: x[order], found)
    checkpoint.save(run.out / "offline.safetensors", metrics.first_seeds(team, config.seeds))
    rows = [row for row in rows if row["seed"] in wanted]
    rundir.append(run.out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    updates = np.full_like(state.inner.learner.updates, max(row["updates"] for row in rows))
    counts = split(updates, config.seeds)

    def start(team: Team, state: State, updates: jax.Array) -> State:
        fresh = learner.restart(config.learner, team)._replace(updates=updates)
        return state._replace(inner=Offline(fresh, state.inner.key))

    teams = split(team, config.seeds)
    begin_anew = over_seeds(lambda x: start(*x), config.seeds, keep=True)  # one program, so that no arrays are shared
    return begin_anew(list(zip(teams, states, counts, strict=True)))


def hand_over(run: Run, states: Rounds) -> Rounds:
    """The switch: the same greedy episodes just before and just after must agree exactly."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    pretrained = method.offline_loss is not None and not method.fresh
    before = play(run, states) if pretrained else None

    def switch(state: State, data: Replay | None) -> State:
        assert isinstance(state.inner, Offline)
        return state._replace(inner=phases.handover(config, spec, method, state.inner, data))

    states = over_seeds(switch, config.seeds)(states, run.data)
    if before is not None:
        after = play(run, states)
        found = metrics.handover_report(before, after, config, spec.has_win)
        rundir.write_json(run.out / "handover.json", found)
        run.display.handover(found)
    return states


def finetune(run: Run, states: Rounds) -> Rounds:
    """The online phase: play and learn, evaluated every so many environment steps."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method

    def learn_some(state: State, played: Rollout, data: Replay | None, until: jax.Array) -> State:
        def learn_from(_: jax.Array, state: State) -> State:
            assert isinstance(state.inner, Online)
            inner, new = phases.learn_online(config, spec, method, state.inner, played, data)
            return state._replace(inner=inner, tally=jax.tree.map(jnp.add, state.tally, new))

        # a seed that has got there waits for the others: a loop of no turn, where a branch would copy the replay
        goes_on = any_over_seeds(state.env_steps < until)
        return jax.lax.fori_loop(0, goes_on.astype(jnp.int32), learn_from, state)

    learn, mark = over_seeds(learn_some, config.seeds), 0
    to_keep: list[tuple[int, Any, jax.Array, jax.Array]] = []

    def play_and_learn(place: int, state: Any) -> Any:
        """One turn of the seeds of one round."""
        played, before = run.world([state.player(method)], 0, None), jnp.copy(state.env_steps)
        [state] = learn([state], run.data, jnp.int32(mark), beside=played)
        if run.experience:
            to_keep.append((place, played[0], before, jnp.copy(state.env_steps)))
        return state

    budget, pace = config.online_env_steps, machine.Pace(SECONDS_PER_CHUNK, first=200)
    steps = env_steps(run, states)
    run.display.phase("online", int(steps.min()), budget, "env steps")
    if steps.min() == 0:
        states = judge(run, states)
    while steps.min() < budget:
        mark = next_mark(int(steps.min()), config.evaluate_every_env_steps, budget)
        until = min(mark, int(steps.min()) + pace.amount())
        with run.clock.measure("online") as chunk:
            before, updates_before, turns = steps, updates_of(run, states), 1
            while steps.min() < until:
                for _ in range(turns):
                    states = [play_and_learn(place, state) for place, state in enumerate(states)]
                was, steps = steps, env_steps(run, states)
                experience.keep(run.experience, to_keep)
                # as many turns more as the seeds need by the last ones' pace, so that no device waits for another
                turns = int(np.clip((until - steps.min()) * turns / max(1, (steps - was).max()), 1, TURNS_AHEAD))
            chunk.env_steps = int((steps - before).sum())
            chunk.updates = int((updates_of(run, states) - updates_before).sum())
        pace.note(int(steps.min() - before.min()), chunk)
        after_chunk(run, states, min(budget, int(steps.min())))
        if steps.min() >= mark:
            states = judge(run, states)
        save_if_stopped(run, states)
    return states


def finish(run: Run, states: Rounds) -> Result:
    """Write the teams and the summary."""
    last = teams(run, states)
    checkpoint.save(run.out / "teams.safetensors", last)
    summary = run.clock.summary() | {f"predicted_{name}_bytes": x for name, x in run.task.needed_bytes.items()}
    if run.task.config.guard_margin is not None:
        summary["guard"] = guard.verdicts(run.task.config, run.rows)
    rundir.write_json(run.out / "summary.json", summary)
    for leftover in ("interrupted.json", "interrupted.safetensors"):
        (run.out / leftover).unlink(missing_ok=True)
    handover = rundir.read_json(run.out / "handover.json")
    kept = experience.write_all(run.experience)
    run.display.finish(run.out, run.rows, summary)
    if kept:
        run.display.say(f"      ovmse inspect {kept[0]} (what was played online, to learn from next time)")
    return Result(run.out, run.rows, handover, last)


def next_mark(done: int, every: int, end: int) -> int:
    """Where the next evaluation is due."""
    return min(end, (done // every + 1) * every)
