"""What is left when learning halts: the batch that it halted at, its numbers by layer, and the last good team.

The files are in ``diagnosis/`` of the run's directory; docs/recovery.md describes them.
"""

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, health, learner, phases, rundir, updates
from ovmse.config import describe
from ovmse.errors import UserError
from ovmse.learner import Batch
from ovmse.networks import Team
from ovmse.phases import Offline
from ovmse.replay import Replay
from ovmse.run import Run, State
from ovmse.seeds import Rounds, join, width

TRY = "a lower --learning-rate (a tenth), or a weaker penalty (--change offline_loss.alpha=…)"


class Found(NamedTuple):
    """The batch of an update, and what it gave: the loss and its parts, and the gradient."""

    batch: Batch
    losses: learner.Losses
    gradients: Team


def check(run: Run, states: Rounds) -> None:
    """Raise `UserError` where learning halted, with everything that tells why written down."""
    seeds = run.task.config.seeds
    causes = join([state.tally.halt.cause for state in states])[:seeds]
    if not causes.any():
        return
    number = int(np.flatnonzero(causes)[0])
    place, i = divmod(number, width(seeds))
    state: State = jax.tree.map(lambda x: x[i], states[place])
    data = None if run.data is None else jax.tree.map(jnp.asarray, jax.device_get(run.data))
    cause = health.CAUSES[int(causes[number])]
    found = eqx.filter_jit(lambda: look_again(run, state, data, cause))()
    numbers = in_numbers(state, found)
    what, advice = explain(cause, numbers, run.task.config.loss_limit)
    where = {
        "seed": run.task.config.seed + number,
        "phase": "offline" if isinstance(state.inner, Offline) else "online",
        "updates": int(state.inner.learner.updates),
        "env_steps": int(state.env_steps),
    }
    folder = write(run, found, state, {"cause": cause, "what": what, **where, **numbers})
    raise UserError(
        f"learning was halted: {what} (seed {where['seed']}, {where['phase']} phase, after {where['updates']} updates "
        f"and {where['env_steps']} environment steps). Nothing was learned from it. Try {advice}. The batch, the norms "
        f"of each layer and the last good team are in {folder}."
    )


def look_again(run: Run, state: State, data: Replay | None, cause: str) -> Found:
    """The update that was not done, once more; of bad play the episodes played last."""
    config, spec, method, inner = run.task.config, run.task.env.spec, run.task.method, state.inner
    key = jax.random.wrap_key_data(state.tally.halt.key)
    if isinstance(inner, Offline):
        assert data is not None
        lesson, replay, mixed = phases.offline_lesson(method), data, None
    else:
        progress = phases.progress_of(config, inner.env_steps)
        lesson, replay = phases.online_lesson(method, progress), inner.replay
        mixed = phases.mixed_in(method, inner, data, progress, inner.priority)
    *k_draw, k_loss = jax.random.split(key, 4)
    drawn, _ = updates.draw(config, replay, mixed, k_draw)
    if cause == "play":
        last = replay.index.written - 1 - jnp.arange(config.episodes_per_collect)
        drawn, mixed = (last % replay.index.start.shape[0], None, None), None
    batch = updates.read(replay, mixed, drawn, spec.episode_limit)
    gradients, losses, _ = learner.gradient(config.learner, lesson, inner.learner, batch, k_loss)
    return Found(batch, losses, gradients)


def in_numbers(state: State, found: Found) -> dict[str, Any]:
    """The batch, the losses and the layers as JSON; what is not finite as a word."""
    episodes, valid = found.batch.episodes, np.asarray(found.batch.episodes.valid)
    rows = np.concatenate([valid[:, :1], valid], axis=1)
    fields = {"reward": valid, "obs": rows, "state": rows}
    batch = {name: _array(np.asarray(getattr(episodes, name))[counts]) for name, counts in fields.items()}
    team, gradients = (
        checkpoint.names(eqx.filter(x, eqx.is_array)) for x in (state.inner.learner.team, found.gradients)
    )
    layers = {
        name: {"parameters": _array(np.asarray(x)), "gradient": _array(np.asarray(gradients[name]))}
        for name, x in team.items()
    }
    losses = {name: _number(x) for name, x in found.losses._asdict().items()}
    return {"losses": losses, "batch": batch, "layers": layers}


def explain(cause: str, numbers: dict[str, Any], limit: float) -> tuple[str, str]:
    """What went wrong, and what to try."""
    bad = [name for name, x in numbers["batch"].items() if x["not_finite"]]
    layers = [name for name, x in numbers["layers"].items() if x["parameters"]["not_finite"]]
    names = {"reward": "rewards", "obs": "observations", "state": "states"}
    if bad:
        what = f"{' and '.join(names[name] for name in bad)} are not finite"
        return what, "mending the environment or the log that they come from (ovmse inspect DATA)"
    if layers:
        return f"parameters are not finite ({', '.join(layers[:3])})", "beginning from other weights"
    if cause == "limit":
        value = numbers["losses"]["loss"]
        return f"the loss is {value}, beyond --loss-limit ({limit:g})", f"{TRY}, or smaller rewards"
    if cause == "parameters":
        return "the step would lead to parameters that are not finite", TRY
    return f"the {cause} is no longer a finite number", TRY


def _array(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)].astype(np.float64)
    return {
        "norm": _number(np.linalg.norm(finite)),
        "largest": _number(np.abs(finite).max(initial=0.0)),
        "not_finite": int(values.size - finite.size),
    }


def _number(value: Any) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def write(run: Run, found: Found, state: State, numbers: dict[str, Any]) -> Path:
    """The directory with the files, in place of an earlier one."""
    folder = run.out / "diagnosis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    checkpoint.save(folder / "batch.safetensors", found.batch)
    checkpoint.save(folder / "team.safetensors", jax.tree.map(lambda x: x[None], state.inner.learner.team))
    rundir.write_json(folder / "config.json", describe(run.task.config))
    rundir.write_json(folder / "numbers.json", numbers)
    return folder
