"""What of a run goes into a checkpoint, when, and how it comes back: everything that its seeds carry on."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, experience, phases, rundir, saved
from ovmse import replay as replays
from ovmse.interrupt import Interrupted
from ovmse.phases import Offline, Online
from ovmse.replay import Replay, first_rows, with_rows
from ovmse.run import Run, State
from ovmse.saved import Saved
from ovmse.seeds import Rounds, join, slots, split, width


def save_when_due(run: Run, states: Rounds) -> None:
    """Write a checkpoint where it is time for one; where the run was asked to stop, then raise `Interrupted`."""
    if run.stop.asked or run.due.is_over():
        save(run, states)
    if run.stop.asked:
        raise Interrupted(run.out, code=run.stop.code)


def save(run: Run, states: Rounds, handover: bool = False) -> None:
    """Write a checkpoint."""
    for writer in run.experience:
        writer.sync()
    about = {
        "online": isinstance(states[0].inner, Online),
        "rows_in_use": rows_in_use(run, states),
        "experience": experience.episodes_kept(run.out, run.task.config, run.experience),
        "clock": run.clock.saved(),
        "ran_on": run.ran_on,
    }

    def seeds(folder: Path) -> None:
        for i, state in each_seed(run, states):
            checkpoint.save(folder / f"seed-{run.task.config.seed + i}.safetensors", state)

    saved.write(run.out, about, run.rows, seeds, keep=run.task.config.checkpoints_kept, handover=handover)
    run.due.restart()


def each_seed(run: Run, states: Rounds) -> Iterator[tuple[int, State]]:
    """Every seed's state on the host, one round at a time; of a replay the rows that were ever written."""
    together, used = width(run.task.config.seeds), rows_in_use(run, states)
    for place, state in enumerate(states):
        whole = checkpoint.to_host(state)
        for i in range(place * together, min((place + 1) * together, run.task.config.seeds)):
            one = jax.tree.map(lambda x: x[i - place * together], whole)  # noqa: B023
            yield i, with_replay(one, lambda replay: first_rows(replay, used[i]))  # noqa: B023


def rows_in_use(run: Run, states: Rounds) -> list[int]:
    """How many rows of each seed's replay were ever written; nothing in the offline phase."""
    if not isinstance(states[0].inner, Online):
        return []
    limit, size = run.task.env.spec.episode_limit, states[0].inner.replay.memory.shape[1]
    index = join([state.inner.replay.index for state in states])
    each = [jax.tree.map(lambda x: x[i], index) for i in range(run.task.config.seeds)]  # noqa: B023
    return [replays.rows_in_use(one, size, limit) for one in each]


def with_replay(state: State, change: Callable[[Replay], Replay]) -> State:
    """The state with its replay changed, in the online phase."""
    inner = state.inner
    return state if isinstance(inner, Offline) else state._replace(inner=inner._replace(replay=change(inner.replay)))


def restore(run: Run, found: Saved, like: State) -> Rounds:
    """The states of a checkpoint; `like` is one seed's at the beginning. Puts the run's files back to where it was."""
    config, about, out = run.task.config, found.about, run.out
    if about["online"]:
        hand = jax.eval_shape(
            lambda inner, data: phases.handover(config, run.task.env.spec, run.task.method, inner, data),
            like.inner,
            run.data,
        )
        like = like._replace(inner=hand)
    size = like.inner.replay.memory.shape[0] if isinstance(like.inner, Online) else 0

    def one(i: int) -> State:
        used = about["rows_in_use"][i] if about["online"] else 0
        shapes = with_replay(like, lambda replay: jax.eval_shape(lambda x: first_rows(x, used), replay))
        state = checkpoint.restore(found.path / f"seed-{config.seed + i}.safetensors", shapes)
        return with_replay(state, lambda replay: with_rows(replay, size))

    states = [one(i) for i in range(config.seeds)]
    states = [states[i] for i in np.resize(np.arange(config.seeds), slots(config.seeds))]  # see `slots`
    rundir.rewrite(out / "metrics.jsonl", found.rows)
    run.rows.extend(found.rows)
    run.clock.restore(about["clock"])
    if config.keep_experience:
        run.experience.extend(experience.open_writers(out, config, run.task.env.spec, about["experience"]))
    return split(jax.tree.map(lambda *x: jnp.stack(x), *states), config.seeds)


def state_checksum(run: Run, states: Rounds) -> str:
    """SHA-256 of everything that the seeds carry on: equal runs end with equal ones."""
    return hashlib.sha256("".join(checkpoint.digest(state) for _, state in each_seed(run, states)).encode()).hexdigest()
