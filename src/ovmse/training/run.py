"""A run under way: what it holds fixed, what it carries on, and how it is evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.networks import Team
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.split import Split
from ovmse.data.writer import DatasetWriter
from ovmse.envs.protocol import AnyEnvironment, is_host
from ovmse.learning import evaluation
from ovmse.learning.evaluation import Scores
from ovmse.learning.parallel import SeedBatches, join
from ovmse.learning.phases import Phase, SeedState
from ovmse.learning.play import CollectFn
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Teams
from ovmse.methods.method import Method
from ovmse.system import files, pytree_files
from ovmse.system.clock import Clock, Interval
from ovmse.system.signals import Stop
from ovmse.training import evaluation_cost, log_evaluation, metrics, rollback
from ovmse.training.display import Display
from ovmse.training.log_evaluation import LogEvaluation
from ovmse.training.played_ahead import PlayedAhead


@dataclass
class Task:
    """A checked configuration with everything that it names.

    In a run under way the dataset is in `Run.data` alone, and here None, so that it is held once.
    env: None where nothing is played; spec: its sizes and its name, or the dataset's. split: which of the dataset's
    episodes are learned from and which are held out; None: all are learned from. earlier: in a batch round, how many of
    them, the first, were learned from before.
    """

    config: Config
    env: AnyEnvironment | None
    spec: EnvSpec
    method: Method
    dataset: Dataset | None
    split: Split | None
    needed_bytes: dict[str, int]
    earlier: int = 0


@runtime_checkable
class Listener(Protocol):
    """Who is told of the metrics of a run."""

    def tell(self, rows: Sequence[dict[str, Any]]) -> None:
        """New rows were written. rows: all of the run so far."""

    def close(self, ended: bool) -> None:
        """Nothing more comes. ended: the run did not stop or fail."""


class Run(NamedTuple):
    """A run's fixed parts and its record under way.

    task: what to run. settings: those that tell which run it is. out: its directory. ran_on: all that its bits depend
    on.
    collect: plays a round of episodes with every seed's team (None: nothing is played). ahead: where workers play, the
    rounds that they play ahead. evaluation_keys: whose episodes
    evaluations play. log_evaluation: what evaluates on held-out episodes (None: there are none).
    data: the dataset, as a replay that is full, without what is held out.
    watch: the monitor, for batches of (team, frozen team) and the dataset.
    send_back: the guard's return to the offline team, for batches of states beside batches of flags.
    rows: the metrics so far. listeners: who is told of them. online_logs: one writer per seed, if any.
    due: when a checkpoint is. clock, display, stop: time, what the user sees, and whether to stop.
    """

    task: Task
    settings: dict[str, Any]
    out: Path
    ran_on: dict[str, Any]
    collect: CollectFn | None
    ahead: PlayedAhead | None
    evaluation_keys: SeedBatches
    log_evaluation: LogEvaluation | None
    data: Replay | None
    watch: Callable[[SeedBatches, Replay], SeedBatches]
    send_back: Callable[..., SeedBatches]
    rows: list[dict[str, Any]]
    listeners: list[Listener]
    online_logs: list[DatasetWriter]
    due: Interval
    clock: Clock
    display: Display
    stop: Stop


def evaluate(run: Run, states: SeedBatches, pause: Callable[[], None]) -> SeedBatches:
    """Evaluate every seed, write a row for each, start new sums, and send back the seeds that the guard says.

    pause: called now and then where the evaluation takes long; it may raise, and then nothing was written.
    """
    config = run.task.config
    rows = new_rows(run, states, pause)
    if not run.rows and run.task.env is not None and is_host(run.task.env):
        took = run.clock.here("evaluation")
        run.display.say(evaluation_cost.in_time(took.busy, config, run.task.method))
    online, done = states[0].phase is Phase.ONLINE, int(env_steps(run, states).min())
    guarded = online and config.guard_margin is not None
    back = rollback.check_rollback(config, run.rows, rows, over=done >= config.online_env_steps) if guarded else []
    files.append_json_lines(run.out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    run.display.rows(rows)
    if config.keep_teams:
        kept = run.out / "teams" / f"{rows[0]['phase']}-{done if online else rows[0]['updates']:09d}.safetensors"
        files.make_folder(kept.parent)
        pytree_files.save(kept, teams(run, states))
    if guarded:
        files.write_json(run.out / "guard.json", rollback.events(config, run.rows))
    if back:
        run.display.rolled_back(back, run.rows)
        states = run.send_back(states, beside=rollback.flags(config, back))
    return [state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums)) for state in states]


def new_rows(run: Run, states: SeedBatches, pause: Callable[[], None]) -> list[dict[str, Any]]:
    """One row of metrics per seed (docs/metrics.md). Raises `UserError` where the rewards are not finite."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    phase, online = states[0].phase, states[0].phase is not Phase.OFFLINE
    scores = None if run.collect is None else play(run, states)
    logged = by_log(run, states, pause)
    watched = [(state.learner.team, frozen_team(state)) for state in states]  # before the handover its own frozen one
    reading = None if run.data is None else join(run.watch(watched, run.data))
    returns = np.zeros((config.seeds, 0)) if scores is None else scores.returns[: config.seeds]
    if len(bad := np.flatnonzero(~np.isfinite(returns).all(axis=1))):
        raise UserError(
            f"halted: in an evaluation of seed {config.seed + int(bad[0])} the rewards are not finite. Try "
            f"mending the environment. What was saved before is in {run.out}."
        )
    steps, updates, episodes, sums = join([(s.env_steps, s.learner.updates, s.episodes, s.sums) for s in states])
    remembers = online and method.offline_loss is not None and method.memory is not None
    rows = []
    for i in range(config.seeds):
        row: dict[str, Any] = {
            "phase": str(phase),
            "seed": config.seed + i,
            "env_steps": int(steps[i]),
            "updates": int(updates[i]),
            "episodes": int(episodes[i]),
            "wall_s": round(run.clock.elapsed(), 3),
        }
        row |= metrics.score_row(scores, i, spec.has_win) | metrics.sums_row(sums, i, remembers)
        row |= metrics.schedule_row(method, progress(config, phase, int(steps[i]), int(updates[i])), online)
        row |= metrics.monitor_row(reading, i, method, online)
        row |= {"epsilon": None} if phase is Phase.ROUND else {}
        rows.append(row | {"rolled_back": None} | logged[i])
    return rows


def progress(config: Config, phase: Phase, steps: int, updates: int) -> float:
    """The share of what schedules run over that is spent, in [0, 1]."""
    spent = (
        updates / config.round.updates if phase is Phase.ROUND and config.round else steps / config.scheduled_env_steps
    )
    return min(1.0, spent)


def by_log(run: Run, states: SeedBatches, pause: Callable[[], None]) -> list[dict[str, Any]]:
    """What held-out episodes say of every seed's team; nulls without any."""
    evaluation, config = run.log_evaluation, run.task.config
    if evaluation is None:
        return [dict.fromkeys(log_evaluation.FIELDS)] * config.seeds

    def advance(done: int, clock: Clock) -> None:
        run.display.evaluating(done / evaluation.updates)
        pause()

    with run.clock.measure("evaluation"):
        return log_evaluation.rows(evaluation, config, states, advance)


def teams(run: Run, states: SeedBatches) -> Team:
    """The teams of all seeds (leading axis), on the host."""
    return of_seeds(run, [state.learner.team for state in states])


def teams_of(method: Method, state: SeedState) -> Teams:
    """The team as it plays now, with the offline team beside it (before the handover itself) if that has a say."""
    team = state.learner.team
    return Teams(team, frozen_team(state)) if method.uses_offline_team else Teams(team)


def frozen_team(state: SeedState) -> Team:
    """The team as it left the offline phase; before that, and without such a phase, the team itself."""
    return state.learner.team if state.offline_team is None else state.offline_team


def play(run: Run, states: SeedBatches) -> Scores:
    """Greedy scores of every seed, always on the same episodes."""
    assert run.collect is not None
    playing = [teams_of(run.task.method, state) for state in states]
    with run.clock.measure("evaluation"):
        return evaluation.evaluate(run.task.config, run.collect, playing, run.evaluation_keys, run.display.evaluating)


def env_steps(run: Run, states: SeedBatches) -> np.ndarray:
    """Online environment steps of every seed so far."""
    return of_seeds(run, [state.env_steps for state in states])


def updates_of(run: Run, states: SeedBatches) -> np.ndarray:
    """Gradient updates of every seed so far."""
    return of_seeds(run, [state.learner.updates for state in states])


def halt_causes(run: Run, states: SeedBatches) -> np.ndarray:
    """Why every seed's learning came to a halt, as a number; 0 where it did not."""
    return of_seeds(run, [state.sums.halt.cause for state in states])


def of_seeds(run: Run, batches: SeedBatches) -> Any:
    """The batches joined, without the seeds that only fill up the devices."""
    return jax.tree.map(lambda x: x[: run.task.config.seeds], join(batches))
