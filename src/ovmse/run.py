"""A run under way: what it holds fixed, what it carries on, how it is judged, stopped and taken up again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, envs, experience, guard, learner, machine, methods, metrics, monitor, phases, rundir
from ovmse.config import Config, change_method, describe, settings
from ovmse.data import Dataset, DatasetWriter
from ovmse.display import Display
from ovmse.envs.protocol import AnyEnvironment
from ovmse.errors import UserError
from ovmse.evaluate import Scores
from ovmse.interrupt import Interrupted, Stop
from ovmse.method import Method
from ovmse.monitor import Watched
from ovmse.networks import PLAIN, Team
from ovmse.phases import Offline, Online, Tally
from ovmse.replay import Replay, from_dataset
from ovmse.rollout import Teams
from ovmse.seeds import Rounds, join, over_seeds, shared, slots, split
from ovmse.types import EnvSpec
from ovmse.worlds import Player, World, evaluate, make_world


@dataclass(frozen=True)
class Task:
    """A checked configuration with everything that it names; in a run under way the dataset is in `Run.data` alone."""

    config: Config
    env: AnyEnvironment
    method: Method
    dataset: Dataset | None
    needed_bytes: dict[str, int]


class State(NamedTuple):
    """Everything that a seed carries on: the phase's own state, and what it tallied since the last row."""

    inner: Offline | Online
    tally: Tally

    @property
    def env_steps(self) -> jax.Array:
        """Online environment steps so far."""
        return self.inner.env_steps if isinstance(self.inner, Online) else jnp.zeros_like(self.inner.learner.updates)

    def teams(self, method: Method) -> Teams:
        """The team as it plays now, with the offline team beside it (before the handover itself) if that has a say."""
        team = self.inner.learner.team
        if not method.guided:
            return Teams(team)
        return Teams(team, self.inner.offline if isinstance(self.inner, Online) else team)

    def player(self, method: Method) -> Player:
        """Who plays the next episodes."""
        return Player(self.teams(method), self.inner.key, self.env_steps)


class Run(NamedTuple):
    """A run's fixed parts and its record under way.

    out: its directory. watch: the monitor, for rounds of (team, frozen team) and the dataset. send_back: the guard's
    return to the offline team, for rounds of states beside rounds of flags. experience: one writer per seed, if any.
    """

    task: Task
    out: Path
    world: World
    data: Replay | None
    watch: Callable[[Rounds, Replay], Rounds]
    send_back: Callable[..., Rounds]
    evaluation_keys: Rounds
    rows: list[dict[str, Any]]
    clock: machine.Clock
    display: Display
    stop: Stop
    experience: list[DatasetWriter]


def prepare(config: Config) -> Task:
    """Find everything that a configuration names and check that it fits together, before anything is written.

    Raises `UserError` naming what does not.
    """
    method = change_method(methods.find(config.method), config.change)
    dataset = None
    if method.uses_data:
        if config.data is None:
            raise UserError(f"the method {config.method!r} learns from data: give --data (such as smax-3m-medium).")
        dataset = Dataset.open(config.data)
    env = envs.make(config.env, **settings(config.env_settings))
    if dataset is not None:
        dataset.check_env(env.spec, config.allow_version_mismatch)
    if config.keep_experience and method.online_target is None:
        raise UserError(f"the method {config.method!r} plays nothing online, so --keep-experience has nothing to keep.")
    guard.check(config, method)
    if config.pretrained is not None:
        check_pretrained(config, env.spec, method)
    return Task(config, env, method, dataset, machine.check_memory(config, env.spec, dataset, method))


def check_pretrained(config: Config, spec: EnvSpec, method: Method) -> None:
    """Raise `UserError` unless the run to take over has an offline phase of these seeds, in this environment, with
    these networks."""
    other = config.pretrained
    assert other is not None
    if method.offline_loss is None:
        raise UserError(f"the method {config.method!r} has no offline phase that --pretrained could stand for.")
    found = rundir.read_json(other / "config.json")
    if not isinstance(found, dict) or not (other / "offline.safetensors").is_file():
        raise UserError(f"{other} holds no finished offline phase (config.json and offline.safetensors).")
    if (name := found.get("env_spec", {}).get("name")) != spec.name:
        raise UserError(f"{other} was trained in {name!r}; this run is in {spec.name!r}.")
    their_parts = found.get("method_value", {}).get("parts", describe(PLAIN))
    theirs = networks_of(found.get("learner", {}), their_parts)
    ours = networks_of(describe(config.learner), describe(method.parts))
    if differ := [f"{k} {theirs.get(k)!r} there, {v!r} here" for k, v in ours.items() if theirs.get(k) != v]:
        raise UserError(f"{other} has another learner: {'; '.join(differ)}.")
    there = {row["seed"] for row in rundir.read_rows(other / "metrics.jsonl") if row["phase"] == "offline"}
    if missing := sorted({config.seed + i for i in range(config.seeds)} - there):
        raise UserError(f"{other} has no offline phase of seeds {missing}; it has {sorted(there) or 'none'}.")


def networks_of(learner: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """The described learner and parts as one; the mixer is the method's where the learner names none."""
    return {**parts, **learner, "mixer": learner.get("mixer") or parts["mixer"]}


def begin(task: Task, display: Display, resume: bool) -> tuple[Run, Rounds]:
    """Open the run's directory and make, or restore, the first states."""
    config = task.config
    keys = jnp.stack([jax.random.key(config.seed + i) for i in range(slots(config.seeds))])
    spec = task.env.spec
    run = Run(
        task=replace(task, dataset=None),
        out=config.out or rundir.next_free(f"{config.env}-{config.method}"),
        world=make_world(config, task.env, task.method),
        data=None if task.dataset is None else shared(from_dataset(task.dataset), config.seeds),
        watch=over_seeds(lambda pair, data: monitor.watch(pair[0], pair[1], data, spec), config.seeds, keep=True),
        send_back=over_seeds(
            lambda state, back: state._replace(inner=guard.send_back(config, state.inner, back)), config.seeds
        ),
        evaluation_keys=split(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), config.seeds),
        rows=[],
        clock=machine.Clock(),
        display=display,
        stop=Stop(display.stopping),
        experience=[],
    )
    if resume:
        return run, restore(run, jax.eval_shape(jax.vmap(lambda key: start(task, key)), keys))
    rundir.create(run.out)
    described = describe(config) | {
        "method_value": describe(task.method),
        "env_spec": task.env.spec._asdict(),
    }
    rundir.write_json(run.out / "config.json", described)
    rundir.write_json(run.out / "versions.json", rundir.versions())
    if config.keep_experience:
        run.experience.extend(experience.open_writers(run.out, config, spec))
    if task.dataset is not None:
        from ovmse.data.inspect import profile  # here, because it imports matplotlib

        rundir.write_json(run.out / "dataset.json", profile(task.dataset))
    held, compiling = task.needed_bytes, task.needed_bytes["compiling"]
    text = f"about {(sum(held.values()) - compiling) / machine.GIB:.2f} GiB of memory will be needed"
    more = f", {sum(held.values()) / machine.GIB:.2f} where programs have to be compiled first" if compiling else ""
    display.say(text + more)
    return run, over_seeds(lambda key: start(task, key), config.seeds, keep=True)(split(keys, config.seeds))


def start(task: Task, key: jax.Array) -> State:
    """One seed's state before the first update."""
    k_init, k_learn = jax.random.split(jax.random.fold_in(key, 0))
    fresh = learner.init(task.config.learner, task.env.spec, k_init, task.method.parts)
    return State(Offline(fresh, k_learn), phases.no_tally())


def judge(run: Run, states: Rounds) -> Rounds:
    """Evaluate every seed, write a row for each, start new tallies, and send back the seeds that the guard says."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    online = isinstance(states[0].inner, Online)
    scores, watched = play(run, states), look(run, states)
    steps, updates = env_steps(run, states), updates_of(run, states)
    episodes = join([state.inner.episodes for state in states]) if online else np.zeros_like(updates)
    tally = join([state.tally for state in states])
    remembers = online and method.offline_loss is not None and method.memory is not None
    rows = []
    for i in range(config.seeds):
        row: dict[str, Any] = {
            "phase": "online" if online else "offline",
            "seed": config.seed + i,
            "env_steps": int(steps[i]),
            "updates": int(updates[i]),
            "episodes": int(episodes[i]),
            "wall_s": round(run.clock.elapsed(), 3),
        }
        row |= metrics.score_row(scores, i, spec.has_win) | metrics.tally_row(tally, i, remembers)
        row |= metrics.schedule_row(method, min(1.0, steps[i] / config.online_env_steps), online)
        row |= metrics.monitor_row(watched, i, method, online)
        rows.append(row | {"rolled_back": None})
    guarded = online and config.guard_margin is not None
    back = guard.judge(config, run.rows, rows, over=bool(steps.min() >= config.online_env_steps)) if guarded else []
    rundir.append(run.out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    run.display.rows(rows)
    if config.keep_teams:
        done = int(steps.min()) if online else int(updates[0])
        kept = run.out / "teams" / f"{rows[0]['phase']}-{done:09d}.safetensors"
        kept.parent.mkdir(exist_ok=True)
        checkpoint.save(kept, teams(run, states))
    if guarded:
        rundir.write_json(run.out / "guard.json", guard.events(config, run.rows))
    if back:
        run.display.rolled_back(back, run.rows)
        states = run.send_back(states, beside=guard.flags(config, back))
    return [state._replace(tally=jax.tree.map(jnp.zeros_like, state.tally)) for state in states]


def teams(run: Run, states: Rounds) -> Team:
    """The teams of all seeds (leading axis), on the host."""
    return metrics.first_seeds(join([state.inner.learner.team for state in states]), run.task.config.seeds)


def play(run: Run, states: Rounds) -> Scores:
    """Greedy scores of every seed, always on the same episodes."""
    playing = [state.teams(run.task.method) for state in states]
    with run.clock.measure("evaluation"):
        return evaluate(run.task.config, run.world, playing, run.evaluation_keys)


def look(run: Run, states: Rounds) -> Watched | None:
    """What the monitor sees, by seed; None without a dataset. Before the handover a team is its own frozen one."""
    if run.data is None:
        return None
    pairs = [(x.learner.team, getattr(x, "offline", None) or x.learner.team) for x in (s.inner for s in states)]
    return join(run.watch(pairs, run.data))


def env_steps(run: Run, states: Rounds) -> np.ndarray:
    """Online environment steps of every seed so far."""
    return join([state.env_steps for state in states])[: run.task.config.seeds]


def updates_of(run: Run, states: Rounds) -> np.ndarray:
    """Gradient updates of every seed so far."""
    return join([state.inner.learner.updates for state in states])[: run.task.config.seeds]


def after_chunk(run: Run, states: Rounds, done: int) -> None:
    """Show progress; raise `UserError` if a loss is no longer a number."""
    run.display.advance(done, run.clock)
    config = run.task.config
    tally = join([state.tally for state in states])
    watched = tally.total.losses.loss + tally.total.grad_norm
    broken = np.flatnonzero(~np.isfinite(watched[: config.seeds]))
    if len(broken):
        seed = int(broken[0])
        raise UserError(
            f"the loss of seed {config.seed + seed} is no longer a number, at update "
            f"{int(updates_of(run, states)[seed])} and environment step {int(env_steps(run, states)[seed])}. Try a "
            "lower --learning-rate (a tenth) or a lower alpha (--change offline_loss.alpha=…). "
            f"What was measured until then is in {run.out}."
        )


def save_if_stopped(run: Run, states: Rounds) -> None:
    """Where Ctrl-C was pressed, save the run so that it can be resumed, and raise `Interrupted`."""
    if not run.stop.asked:
        return
    out = run.out
    checkpoint.save(out / "interrupted.safetensors", join(states))
    online = isinstance(states[0].inner, Online)
    kept = [writer.episodes for writer in run.experience]
    noted = {"online": online, "rows": len(run.rows), "clock": run.clock.saved(), "experience": kept}
    rundir.write_json(out / "interrupted.json", noted)
    raise Interrupted(out)


def restore(run: Run, like: State) -> Rounds:
    """The states of an interrupted run; its metrics stay. Raises `UserError` if there is nothing to resume."""
    out = run.out
    found = rundir.read_json(out / "interrupted.json")
    if not isinstance(found, dict) or not {"online", "rows", "clock"} <= set(found):
        raise UserError(f"{out} holds no interrupted run: it ended, or it never began.")
    if found["online"]:
        hand = jax.vmap(
            lambda inner, data: phases.handover(run.task.config, run.task.env.spec, run.task.method, inner, data),
            (0, None),
        )
        like = like._replace(inner=jax.eval_shape(hand, like.inner, run.data))
    rows = rundir.read_rows(out / "metrics.jsonl")[: found["rows"]]  # a resumed run may have gone on and been lost
    rundir.rewrite(out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    run.clock.restore(found["clock"])
    if run.task.config.keep_experience:
        kept = found["experience"]
        run.experience.extend(experience.open_writers(out, run.task.config, run.task.env.spec, kept))
    return split(checkpoint.restore(out / "interrupted.safetensors", like), run.task.config.seeds)
