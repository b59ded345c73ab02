"""A batch round from its configuration to a checked task: the deployed team, the new logs, and the earlier ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ovmse.config import Config, RoundConfig
from ovmse.core.errors import UserError, number_of
from ovmse.core.schedules import is_zero
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.flat import joined
from ovmse.data.same_plant import as_play_of
from ovmse.data.split import Split, hold_out
from ovmse.data.zarr_files import digest
from ovmse.envs.protocol import AnyEnvironment
from ovmse.methods.exploration import own_utilities
from ovmse.methods.method import Method
from ovmse.policy.load import FILES
from ovmse.runs import checkpoints
from ovmse.runs.saved_config import read_config, read_described, read_spec
from ovmse.training import memory
from ovmse.training.pretrained import check_networks
from ovmse.training.run import Task


def round_task(
    config: Config, method: Method, env: AnyEnvironment | None, open_dataset: Callable[[str], Dataset]
) -> Task:
    """Find everything that a round needs and check that it fits together. Raises `UserError` naming what does not."""
    chosen, data = config.round, config.data
    assert chosen is not None and data is not None and config.held_out is not None
    check_method(config.method, method)
    goes_on = config.out is not None and bool(checkpoints.names(config.out / checkpoints.FOLDER))
    if goes_on:
        check_unchanged(config)
    else:
        check_source(config, chosen, method)
    spec = read_spec(config.out if goes_on and config.out is not None else chosen.run)
    if spec is None:
        raise UserError(f"{chosen.run / 'config.json'} doesn't say which environment the run was in (env_spec).")
    spec = spec if env is None else env.spec
    *earlier, new = [open_dataset(name) for name in (*chosen.earlier, data)]
    for one in earlier:
        if one.metadata.checksum == new.metadata.checksum != "" or one.path.resolve() == new.path.resolve():
            raise UserError(
                f"{data} is what {chosen.run} has learned from already: give the logs that came back since."
            )
    called = (earlier or [new])[0].metadata.names
    for log in (*earlier, new):
        if env is not None:
            log.check_env(spec, config.allow_version_mismatch)
        else:
            spec = as_play_of(log, spec, called, chosen.run).spec
    dataset, split = together(earlier, new, spec, config)
    needed = memory.check_memory(config, spec, dataset, method)
    return Task(config, env, spec, method, dataset, split, needed, sum(len(one.length) for one in earlier))


def together(earlier: list[Dataset], new: Dataset, spec: EnvSpec, config: Config) -> tuple[Dataset, Split]:
    """All logs as one dataset, the earlier ones first, of whose new episodes alone some are held out."""
    assert config.held_out is not None
    first = sum(len(one.length) for one in earlier)
    kept, held_out = hold_out(len(new.length), config.held_out, config.seed)
    flat = joined([one.flat for one in (*earlier, new)])
    logs = (*earlier, new)
    told = "; ".join(f"{number_of(len(one.length), 'episode')} of {one.path.name}" for one in logs)
    metadata = replace(
        new.metadata,
        env=spec,
        behaviour=told,
        checksum=digest(flat),
        episodes=len(flat["length"]),
        steps=len(flat["reward"]),
    )
    return Dataset(new.path, metadata, **flat), Split(
        np.concatenate([np.arange(first), first + kept]), first + held_out
    )


def check_method(name: str, method: Method) -> None:
    """Raise `UserError` unless a method can go on from a team without playing, and its team can be judged by a log."""
    why = None
    if method.online_target is None or method.offline_loss is None:
        why = "has no online phase that goes on from an offline one"
    elif method.reinitialise_online:
        why = "learns new networks online, which can't go on from the deployed team's"
    elif method.uses_offline_team or method.acting_utilities is not own_utilities:
        why = "plays with two teams, and a log can judge one"
    elif not is_zero(method.warm_up):
        why = "begins by playing without learning (warm_up), which logs can't"
    if why:
        raise UserError(f"the method {name!r} {why}: choose another for the round, such as --method ovmse.")


def check_source(config: Config, chosen: RoundConfig, method: Method) -> None:
    """Raise `UserError` unless the run that a round goes on from has the team, of these networks and this seed."""
    there = read_config(chosen.run, trusted=True)
    for file in (FILES[chosen.team], FILES["offline"]):
        if not (chosen.run / file).is_file():
            raise UserError(
                f"{chosen.run / file} is missing: a round goes on from a run that has ended its offline phase."
            )
    if not 0 <= config.seed - there.seed < there.seeds:
        last = there.seed + there.seeds - 1
        raise UserError(f"{chosen.run} has the seeds {there.seed} to {last}; got --seed {config.seed}.")
    check_networks(chosen.run, read_described(chosen.run) or {}, config, method)


def check_unchanged(config: Config) -> None:
    """Raise `UserError` where a round that goes on is to be longer in a unit that it is not counted in."""
    assert config.out is not None
    there = read_config(config.out, trusted=True)
    if (there.offline_updates, there.online_env_steps) != (config.offline_updates, config.online_env_steps):
        raise UserError(
            "a batch round is counted in its own updates, so --offline-updates and --online-env-steps have no effect."
        )
