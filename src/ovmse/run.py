"""A run under way: what it holds fixed, what it carries on, and how it is judged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, guard, machine, metrics, rundir
from ovmse.data import DatasetWriter
from ovmse.display import Display
from ovmse.errors import UserError
from ovmse.evaluate import Scores
from ovmse.interrupt import Stop
from ovmse.method import Method
from ovmse.monitor import Watched
from ovmse.networks import Team
from ovmse.phases import Offline, Online, Tally
from ovmse.prepare import Task
from ovmse.replay import Replay
from ovmse.rollout import Teams
from ovmse.seeds import Rounds, join
from ovmse.worlds import Player, World, evaluate


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
    return to the offline team, for rounds of states beside rounds of flags. due: when a checkpoint is. ran_on: all that
    its bits depend on. experience: one writer per seed, if any.
    """

    task: Task
    out: Path
    world: World
    data: Replay | None
    watch: Callable[[Rounds, Replay], Rounds]
    send_back: Callable[..., Rounds]
    due: machine.Interval
    ran_on: dict[str, Any]
    evaluation_keys: Rounds
    rows: list[dict[str, Any]]
    clock: machine.Clock
    display: Display
    stop: Stop
    experience: list[DatasetWriter]


def judge(run: Run, states: Rounds) -> Rounds:
    """Evaluate every seed, write a row for each, start new tallies, and send back the seeds that the guard says."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    online = isinstance(states[0].inner, Online)
    scores, watched = play(run, states), look(run, states)
    if len(bad := np.flatnonzero(~np.isfinite(scores.returns[: config.seeds]).all(axis=1))):
        raise UserError(
            f"halted: in an evaluation of seed {config.seed + int(bad[0])} the rewards are not finite. Try "
            f"mending the environment. What was saved before is in {run.out}."
        )
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


def has_halted(run: Run, states: Rounds) -> bool:
    """Whether a seed's learning came to a halt (those that only fill up the devices do not count)."""
    return bool(join([state.tally.halt.cause for state in states])[: run.task.config.seeds].any())
