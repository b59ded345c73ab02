"""An earlier run's offline phase in place of one's own (`--pretrained`): what must fit, and how it is taken over."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.networks import PLAIN, Team
from ovmse.core.settings import describe
from ovmse.core.types import EnvSpec
from ovmse.learning import learner
from ovmse.learning.parallel import SeedBatches, join, over_seeds, padded_seeds, split
from ovmse.learning.phases import SeedState, begin, key_after
from ovmse.methods.method import Method
from ovmse.runs.metrics_file import checked_rows
from ovmse.runs.saved_config import read_described
from ovmse.system import files, pytree_files
from ovmse.training.run import Run


def load_pretrained(run: Run, states: SeedBatches) -> SeedBatches:
    """The teams, metrics and random states of an earlier run's offline phase, in place of a phase of one's own.

    The online phase is then bit for bit that of a run with the same offline phase of its own.
    """
    config, state = run.task.config, join(states)
    assert config.pretrained is not None
    rows = offline_rows(config.pretrained)
    there, taken = sorted({row["seed"] for row in rows}), taken_seeds(config)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(there), *x.shape[1:]), x.dtype), state.learner.team)
    found = pytree_files.restore(config.pretrained / "offline.safetensors", like)
    order = np.asarray([there.index(theirs) for theirs in taken.values()])
    order = np.resize(order, padded_seeds(config.seeds))  # the extra seeds that fill the devices repeat the first
    team = jax.tree.map(lambda x: x[order], found)
    pytree_files.save(run.out / "offline.safetensors", jax.tree.map(lambda x: x[: config.seeds], team))
    rows = [row | {"seed": ours} for row in rows for ours, theirs in taken.items() if row["seed"] == theirs]
    files.append_json_lines(run.out / "metrics.jsonl", rows)
    run.rows.extend(rows)
    updates = np.full_like(state.learner.updates, max(row["updates"] for row in rows))

    def start(team: Team, state: SeedState, updates: jax.Array) -> SeedState:
        return begin(learner.restart(config.learner, team)._replace(updates=updates), key_after(state.key, updates))

    begin_anew = over_seeds(lambda x: start(*x), config.seeds, keep=True)  # one program, so that no arrays are shared
    return begin_anew(list(zip(split(team, config.seeds), states, split(updates, config.seeds), strict=True)))


def taken_seeds(config: Config) -> dict[int, int]:
    """Each seed of a run, and the seed of the run taken over whose team it goes on from."""
    ours = range(config.seed, config.seed + config.seeds)
    return {seed: seed if config.pretrained_seed is None else config.pretrained_seed for seed in ours}


def offline_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's offline phase. Raises `UserError` where one can't be used."""
    return [row for row in checked_rows(run / "metrics.jsonl") if row["phase"] == "offline"]


def check_pretrained(config: Config, spec: EnvSpec, method: Method) -> None:
    """Raise `UserError` unless the run to take over has an offline phase of these seeds, in this environment, with
    these networks."""
    other = config.pretrained
    assert other is not None
    if method.offline_loss is None:
        raise UserError(f"the method {config.method!r} has no offline phase that --pretrained could stand for.")
    if other.is_dir():
        files.check_tree(other)
    found = read_described(other)
    if found is None or not (other / "offline.safetensors").is_file():
        raise UserError(f"{other} holds no finished offline phase (config.json and offline.safetensors).")
    updates = found.get("offline_updates")
    if config.offline_updates not in (Config().offline_updates, updates):
        raise UserError(
            f"--pretrained takes over the offline phase of {other}, of {updates} updates: --offline-updates "
            f"{config.offline_updates} would have no effect. Leave it out, or train without --pretrained."
        )
    if (name := found.get("env_spec", {}).get("name")) != spec.name:
        raise UserError(f"{other} was trained in {name!r}; this run is in {spec.name!r}.")
    check_networks(other, found, config, method)
    there = {row["seed"] for row in offline_rows(other)}
    if missing := sorted(set(taken_seeds(config).values()) - there):
        says = f"{other} has no offline phase of seeds {missing}; it has {sorted(there) or 'none'}."
        raise UserError(f"{says} Choose --seed among them, or with --pretrained-seed one of them for all.")


def check_networks(other: Path, found: dict[str, Any], config: Config, method: Method) -> None:
    """Raise `UserError` unless a run whose `config.json` is `found` has the networks that a configuration asks for."""
    theirs = networks_of(found.get("learner", {}), found.get("method_value", {}).get("parts", describe(PLAIN)))
    ours = networks_of(describe(config.learner), describe(method.parts))
    if differ := [f"{k} {theirs.get(k)!r} there, {v!r} here" for k, v in ours.items() if theirs.get(k) != v]:
        raise UserError(f"{other} has other networks: {'; '.join(differ)}.")


def networks_of(learner: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of the networks and their sizes; the mixer is the method's where the described learner names none."""
    sizes = {name: learner.get(name) for name in ("hidden", "embedding", "hyper", "kinds")}
    shared = {"parameters": learner.get("parameters", "shared")}  # an older run does not say
    return {**parts, **sizes, **shared, "mixer": learner.get("mixer") or parts.get("mixer")}
