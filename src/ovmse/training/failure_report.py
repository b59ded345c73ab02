"""What is left when learning halts (docs/recovery.md): the batch that it halted at, its numbers, the last good team."""

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.networks import Team
from ovmse.core.settings import describe
from ovmse.learning import batches, finiteness, learner, packing, phases, rounds
from ovmse.learning.learner import Batch
from ovmse.learning.parallel import SeedBatches, seeds_per_batch
from ovmse.learning.phases import Phase, SeedState
from ovmse.learning.replay import Replay
from ovmse.system import files, pytree_files
from ovmse.training.run import Run, halt_causes

TRY = "a lower --learning-rate (a tenth), or a weaker penalty (--change offline_loss.alpha=…)"


class FailedUpdate(NamedTuple):
    """The batch of an update, and what it gave: the loss and its parts, and the gradient."""

    batch: Batch
    losses: learner.Losses
    gradients: Team


def check(run: Run, states: SeedBatches) -> None:
    """Raise `UserError` where learning halted, with everything that tells why written down."""
    causes = halt_causes(run, states)
    if not causes.any():
        return
    number = int(np.flatnonzero(causes)[0])
    place, i = divmod(number, seeds_per_batch(run.task.config.seeds))
    state: SeedState = jax.tree.map(lambda x: x[i], states[place])
    data = None if run.data is None else jax.tree.map(jnp.asarray, jax.device_get(run.data))
    cause = finiteness.CAUSES[int(causes[number])]
    found = eqx.filter_jit(lambda: look_again(run, state, data, cause))()
    numbers = in_numbers(state, found)
    what, advice = explain(cause, numbers, run.task.config.loss_limit)
    where = {
        "seed": run.task.config.seed + number,
        "phase": state.phase,
        "updates": int(state.learner.updates),
        "env_steps": int(state.env_steps),
    }
    folder = write(run, found, state, {"cause": cause, "what": what, **where, **numbers})
    raise UserError(
        f"learning was halted: {what} (seed {where['seed']}, {where['phase']} phase, after {where['updates']} updates "
        f"and {where['env_steps']} environment steps). Nothing was learned from it. Try {advice}. The batch, the norms "
        f"of each layer and the last good team are in {folder}."
    )


def look_again(run: Run, state: SeedState, data: Replay | None, cause: str) -> FailedUpdate:
    """The update that was not done, once more; of bad play the episodes played last."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    key = jax.random.wrap_key_data(state.sums.halt.key)
    if state.phase is Phase.OFFLINE:
        assert data is not None
        objective, replay, mixed = phases.offline_objective(method), data, None
    elif state.phase is Phase.ROUND:
        assert data is not None
        logs = rounds.logs_of(state, data, run.task.earlier)
        objective, mixed = rounds.batches_of(config, method, state, logs)
        replay = logs.new
    else:
        assert state.replay is not None
        progress = phases.progress_of(config, state.env_steps)
        objective, replay = phases.online_objective(method, progress), state.replay
        mixed = phases.mixed_in(method, state, data, progress, state.priority)
    *k_draw, k_loss = jax.random.split(key, 4)
    drawn, lengths = batches.draw(config, replay, mixed, k_draw)
    if cause == "play":
        last = replay.index.written - 1 - jnp.arange(config.episodes_per_collect)
        slots = last % replay.index.start.shape[0]
        drawn, mixed, lengths = (slots, None, None), None, replay.index.length[slots]
    batch = batches.read(replay, mixed, drawn, packing.one_by_one(lengths, spec.episode_limit))
    gradients, losses, _ = learner.gradient(config.learner, objective, state.learner, batch, k_loss)
    return FailedUpdate(batch, losses, gradients)


def in_numbers(state: SeedState, found: FailedUpdate) -> dict[str, Any]:
    """The batch, the losses and the layers as JSON; what is not finite as a word."""
    episodes, valid = found.batch.episodes, np.asarray(found.batch.episodes.valid)
    rows = np.concatenate([valid[:, :1], valid], axis=1)
    fields = {"reward": valid, "obs": rows, "state": rows}
    batch = {name: _array(np.asarray(getattr(episodes, name))[counts]) for name, counts in fields.items()}
    team, gradients = (pytree_files.names(eqx.filter(x, eqx.is_array)) for x in (state.learner.team, found.gradients))
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


def write(run: Run, found: FailedUpdate, state: SeedState, numbers: dict[str, Any]) -> Path:
    """The directory with the files, in place of an earlier one."""
    folder = run.out / "diagnosis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pytree_files.save(folder / "batch.safetensors", found.batch)
    pytree_files.save(folder / "team.safetensors", jax.tree.map(lambda x: x[None], state.learner.team))
    files.write_json(folder / "config.json", describe(run.task.config))
    files.write_json(folder / "numbers.json", numbers)
    return folder
