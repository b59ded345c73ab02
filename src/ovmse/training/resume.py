"""What of a run goes into a checkpoint, when, and how it comes back: everything that its seeds carry on."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ovmse.learning import phases, replay as replays
from ovmse.learning.parallel import SeedBatches, join, padded_seeds, seeds_per_batch, split
from ovmse.learning.phases import Phase, SeedState
from ovmse.learning.replay import Replay, first_rows, with_size
from ovmse.learning.rounds import handover_to_logs
from ovmse.runs import checkpoints
from ovmse.runs.checkpoints import Saved
from ovmse.runs.trusted_code import resume_command
from ovmse.system import files, pytree_files
from ovmse.system.signals import Interrupted
from ovmse.training import online_log
from ovmse.training.run import Run


def save_when_due(run: Run, states: SeedBatches) -> None:
    """Write a checkpoint where it is time for one; where the run was asked to stop, then raise `Interrupted`."""
    if run.stop.asked or run.due.is_over():
        save(run, states)
    if run.stop.asked:
        raise Interrupted(run.out, resume_command(run.task.config, run.out), run.stop.code)


def save(run: Run, states: SeedBatches, handover: bool = False) -> Path:
    """Write a checkpoint, and return its directory."""
    for writer in run.online_logs:
        writer.sync()
    about = {
        "phase": str(states[0].phase),
        "rows_in_use": rows_in_use(run, states),
        "experience": [writer.episodes for writer in run.online_logs],
        "clock": run.clock.saved(),
        "ran_on": run.ran_on,
        "run": run.settings,
    }

    def seeds(folder: Path) -> None:
        for i, state in each_seed(run, states):
            pytree_files.save(folder / f"seed-{run.task.config.seed + i}.safetensors", state)
        if run.ahead is not None:
            run.ahead.save(folder, run.task.config.seed)

    keep = run.task.config.checkpoints_kept
    written = checkpoints.write(run.out, about, run.rows, seeds, keep=keep, handover=handover)
    run.due.restart()
    return written


def each_seed(run: Run, states: SeedBatches) -> Iterator[tuple[int, SeedState]]:
    """Every seed's state on the host, one batch of seeds at a time; of a replay the rows that were ever written."""
    together, used = seeds_per_batch(run.task.config.seeds), rows_in_use(run, states)
    for place, state in enumerate(states):
        whole = pytree_files.to_host(state)
        for i in range(place * together, min((place + 1) * together, run.task.config.seeds)):
            one = jax.tree.map(lambda x: x[i - place * together], whole)  # noqa: B023
            yield i, with_replay(one, lambda replay: first_rows(replay, used[i]))  # noqa: B023


def rows_in_use(run: Run, states: SeedBatches) -> list[int]:
    """How many rows of each seed's replay were ever written; nothing where there is none."""
    if states[0].replay is None:
        return []
    limit, size = run.task.spec.episode_limit, states[0].replay.offline_value.shape[1]
    index = join([state.replay.index for state in states])
    each = [jax.tree.map(lambda x: x[i], index) for i in range(run.task.config.seeds)]  # noqa: B023
    return [replays.rows_in_use(one, size, limit) for one in each]


def with_replay(state: SeedState, change: Callable[[Replay], Replay]) -> SeedState:
    """The state with its replay changed, where it has one."""
    return state if state.replay is None else state._replace(replay=change(state.replay))


def restore(run: Run, found: Saved, like: SeedState) -> SeedBatches:
    """The states of a checkpoint; `like` is one seed's at the beginning. Puts the run's files back to where it was."""
    config, spec, about, out = run.task.config, run.task.spec, found.about, run.out
    saved_by = replace(config, online_env_steps=about["run"]["online_env_steps"])  # its replay may have been smaller
    if about["phase"] == Phase.ONLINE:
        like = jax.eval_shape(
            lambda state, data: phases.handover(saved_by, spec, run.task.method, state, data), like, run.data
        )
    if about["phase"] == Phase.ROUND:
        like = jax.eval_shape(
            lambda state, data: handover_to_logs(
                config, spec, run.task.method, state, state.learner.team, data, run.task.earlier
            ),
            like,
            run.data,
        )
    size = phases.replay_rows(config, spec)

    def one(i: int) -> SeedState:
        used = 0 if like.replay is None else about["rows_in_use"][i]
        shapes = with_replay(like, lambda replay: jax.eval_shape(lambda x: first_rows(x, used), replay))
        state = pytree_files.restore(found.path / f"seed-{config.seed + i}.safetensors", shapes)
        return with_replay(state, lambda replay: with_size(replay, size))

    states = [one(i) for i in range(config.seeds)]
    states = [states[i] for i in np.resize(np.arange(config.seeds), padded_seeds(config.seeds))]  # see `padded_seeds`
    files.write_json_lines(out / "metrics.jsonl", found.rows)
    run.rows.extend(found.rows)
    run.clock.restore(about["clock"])
    if config.keep_experience:
        run.online_logs.extend(online_log.open_writers(out, config, spec, about["experience"]))
    if run.ahead is not None and about["phase"] == Phase.ONLINE:
        run.ahead.restore(found.path, config.seed)
    return split(jax.tree.map(lambda *x: jnp.stack(x), *states), config.seeds)


def state_checksum(run: Run, states: SeedBatches) -> str:
    """SHA-256 of everything that the seeds carry on: equal runs end with equal ones."""
    digests = "".join(pytree_files.digest(state) for _, state in each_seed(run, states))
    return hashlib.sha256(digests.encode()).hexdigest()
