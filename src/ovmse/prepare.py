"""From a configuration to a checked task: everything found and held against each other before anything is written."""

from dataclasses import dataclass
from typing import Any

from ovmse import envs, guard, machine, methods, rundir, saved
from ovmse.config import Config, change_method, describe, settings
from ovmse.data import Dataset
from ovmse.envs.protocol import AnyEnvironment
from ovmse.errors import UserError
from ovmse.method import Method
from ovmse.networks import PLAIN
from ovmse.types import EnvSpec


@dataclass(frozen=True)
class Task:
    """A checked configuration with everything that it names; in a run under way the dataset is in `Run.data` alone."""

    config: Config
    env: AnyEnvironment
    method: Method
    dataset: Dataset | None
    needed_bytes: dict[str, int]


def prepare(config: Config) -> Task:
    """Find everything that a configuration names and check that it fits together, before anything is written.

    Raises `UserError` naming what does not.
    """
    machine.use()
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
    goes_on = config.out is not None and saved.names(config.out / saved.FOLDER)
    if config.pretrained is not None and not goes_on:  # what goes on has taken over already
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
