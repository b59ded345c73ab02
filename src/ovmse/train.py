"""One run, top to bottom: prepare, pretrain, hand over, fine-tune, write."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import (
    checkpoint,
    diagnosis,
    experience,
    guard,
    health,
    learner,
    lock,
    machine,
    metrics,
    phases,
    rundir,
    saved,
)
from ovmse.begin import begin
from ovmse.config import Config
from ovmse.display import Display
from ovmse.interrupt import Interrupted, Stop
from ovmse.networks import Team
from ovmse.phases import Offline, Online
from ovmse.prepare import Task, prepare
from ovmse.replay import Replay
from ovmse.resume import save, save_when_due, state_checksum
from ovmse.rollout import Rollout
from ovmse.run import Run, State, env_steps, has_halted, judge, play, teams, updates_of
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


def train(
    config: Config, display: Display | None = None, resume: bool = False, allow_inexact_resume: bool = False
) -> Result:
    """Run a configuration to its end and write everything into ``config.out``.

    A run that was stopped, or whose process was killed, goes on from its newest checkpoint: with `resume`, or where
    the same configuration is run again. `allow_inexact_resume`: also on another machine or with other versions, where
    it can't go on bit for bit.

    Raises `UserError` on bad input before anything is written, where learning came to a halt, or where a file can't be
    written; `Interrupted` after Ctrl-C or SIGTERM, with the run saved.
    """
    out = config.out or rundir.next_free(f"{config.env}-{config.method}")
    task, display = prepare(replace(config, out=out)), display or Display()
    if not saved.is_run(out):
        rundir.create(out)
    with rundir.writable(out), lock.held(out, display.say), stopped_at_once(out):
        return finish(*play_out(task, display, resume, allow_inexact_resume))


def play_out(task: Task, display: Display, resume: bool = False, inexact: bool = False) -> tuple[Run, Rounds]:
    """All phases of a run in `task.config.out`, up to its last states."""
    config, stop = task.config, Stop(display.stopping)
    with stop:
        run, states = begin(task, display, stop, resume, inexact)
        with display, experience.kept_on_failure(run.experience):
            if task.method.offline_loss is not None and isinstance(states[0].inner, Offline):
                states = take_over(run, states) if config.pretrained else pretrain(run, states)
            if task.method.online_target is not None:
                if isinstance(states[0].inner, Offline):
                    states = hand_over(run, states)
                states = finetune(run, states)
    return run, states


@contextmanager
def stopped_at_once(out: Path) -> Iterator[None]:
    """A second Ctrl-C within says what is left to go on from."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(out, at_once=True) from stop


def pretrain(run: Run, states: Rounds) -> Rounds:
    """The offline phase: gradient updates on the dataset, evaluated every so often."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    assert run.data is not None
    lengths = lengths_of(run.data)

    def learn_some(state: State, data: Replay, updates: jax.Array) -> State:
        assert isinstance(state.inner, Offline)
        return State(*phases.learn_offline(config, spec, method, state.inner, data, updates, lengths, state.tally))

    learn = over_seeds(learn_some, config.seeds)
    done, pace = int(states[0].inner.learner.updates[0]), machine.Pace(SECONDS_PER_CHUNK, first=20)
    run.display.phase("offline", done, config.offline_updates, "updates")
    while True:
        if is_due(run.rows, "offline", done, config.evaluate_every_updates, config.offline_updates):
            states = judge(run, states)
        if done >= config.offline_updates:
            break
        save_when_due(run, states)
        mark = next_mark(done, config.evaluate_every_updates, config.offline_updates)
        updates = min(pace.amount(), mark - done)
        with run.clock.measure("offline") as chunk:
            states = jax.block_until_ready(learn(states, run.data, jnp.int32(updates)))
            chunk.updates = config.seeds * updates
        pace.note(updates, chunk)
        done += updates
        run.display.advance(done, run.clock)
        diagnosis.check(run, states)
        save_when_due(run, states)
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
    save(run, states, handover=True)
    return states


def finetune(run: Run, states: Rounds) -> Rounds:
    """The online phase: play and learn, evaluated every so many environment steps."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method

    def learn_some(state: State, played: Rollout, data: Replay | None, until: jax.Array) -> State:
        def learn_from(_: jax.Array, state: State) -> State:
            assert isinstance(state.inner, Online)
            return State(*phases.learn_online(config, spec, method, state.inner, played, data, state.tally))

        # a seed that has got there waits for the others: a loop of no turn, where a branch would copy the replay
        goes_on = any_over_seeds((state.env_steps < until) & health.is_well(state.tally.halt))
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
    while True:
        if is_due(run.rows, "online", int(steps.min()), config.evaluate_every_env_steps, budget):
            states = judge(run, states)
        if steps.min() >= budget:
            break
        save_when_due(run, states)
        mark = next_mark(int(steps.min()), config.evaluate_every_env_steps, budget)
        until = min(mark, int(steps.min()) + pace.amount())
        with run.clock.measure("online") as chunk:
            before, updates_before, turns = steps, updates_of(run, states), 1
            while steps.min() < until and not has_halted(run, states):
                for _ in range(turns):
                    states = [play_and_learn(place, state) for place, state in enumerate(states)]
                was, steps = steps, env_steps(run, states)
                experience.keep(run.experience, to_keep)
                # as many turns more as the seeds need by the last ones' pace, so that no device waits for another
                turns = int(np.clip((until - steps.min()) * turns / max(1, (steps - was).max()), 1, TURNS_AHEAD))
            chunk.env_steps = int((steps - before).sum())
            chunk.updates = int((updates_of(run, states) - updates_before).sum())
        pace.note(int(steps.min() - before.min()), chunk)
        run.display.advance(min(budget, int(steps.min())), run.clock)
        diagnosis.check(run, states)
        save_when_due(run, states)
    return states


def finish(run: Run, states: Rounds) -> Result:
    """Write the teams, the experience and, last of all, the summary; the checkpoints have had their time then."""
    with run.stop:  # too late to stop: it ends
        save(run, states)
        last = teams(run, states)
        checkpoint.save(run.out / "teams.safetensors", last)
        kept = experience.write_all(run.experience)
        summary = run.clock.summary() | {f"predicted_{name}_bytes": x for name, x in run.task.needed_bytes.items()}
        summary["state_sha256"] = state_checksum(run, states)
        if run.task.config.guard_margin is not None:
            summary["guard"] = guard.verdicts(run.task.config, run.rows)
        rundir.write_json(run.out / "summary.json", summary)
        saved.tidy(run.out)
    handover = rundir.read_json(run.out / "handover.json")
    run.display.finish(run.out, run.rows, summary)
    if kept:
        run.display.say(f"      ovmse inspect {kept[0]} (what was played online, to learn from next time)")
    return Result(run.out, run.rows, handover, last)


def is_due(rows: list[dict[str, Any]], phase: str, done: int, every: int, end: int) -> bool:
    """Whether a phase's next evaluation is due after so many updates or environment steps: at its beginning, and
    whenever a mark was passed since the last one."""
    unit = "updates" if phase == "offline" else "env_steps"
    last = {row["seed"]: row[unit] for row in rows if row["phase"] == phase}
    before = min(last.values(), default=-1)
    return before < done and (before < 0 or next_mark(before, every, end) <= done)


def next_mark(done: int, every: int, end: int) -> int:
    """Where the next evaluation is due."""
    return min(end, (done // every + 1) * every)
