"""From a configuration to a checked task: everything found and held against each other before anything is written."""

from collections.abc import Callable
from dataclasses import replace

from ovmse import methods
from ovmse.config import NO_ENV, Config, LearnerConfig, with_kinds
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.split import hold_out
from ovmse.envs.settings import make_by_options
from ovmse.learning.workers import check_workers
from ovmse.methods.overrides import change_method
from ovmse.runs import checkpoints
from ovmse.system import jax_setup
from ovmse.training import memory, rollback
from ovmse.training.choose_env import with_env
from ovmse.training.pretrained import check_pretrained
from ovmse.training.round_setup import round_task
from ovmse.training.run import Task
from ovmse.training.trackers import check_trackers
from ovmse.training.without_play import without_play


def setup(config: Config, open_dataset: Callable[[str], Dataset] = Dataset.open) -> Task:
    """Find everything that a configuration names and check that it fits together, before anything is written.

    open_dataset: reads the dataset by its name or directory; whoever checks many runs may keep what was read.
    Raises `UserError` naming what does not.
    """
    goes_on = config.out is not None and checkpoints.names(config.out / checkpoints.FOLDER)
    if not goes_on:  # what goes on does so without a tracker that is not here, as with one that fails
        check_trackers(config.log)
    jax_setup.use()
    method, config = change_method(methods.find(config.method), config.change), with_env(config)
    env = None
    if config.env not in (None, NO_ENV):
        env = make_by_options(str(config.env), config.env_settings, config.env_python)
    if method.uses_data and config.data is None:
        raise UserError(f"the method {config.method!r} learns from data: give --data (such as smax-3m-medium).")
    if config.round is not None:
        return round_task(config, method, env, open_dataset)
    if config.env == NO_ENV:
        config, method = without_play(config, method)
    dataset = open_dataset(config.data) if config.data is not None and method.uses_data else None
    spec = env.spec if env is not None else dataset.spec if dataset is not None else None
    assert spec is not None  # without an environment a method uses data
    if dataset is not None:
        dataset.check_env(spec, config.allow_version_mismatch)
    elif config.held_out is not None:
        raise UserError(f"the method {config.method!r} learns from no data, so --held-out has nothing to hold out.")
    split = None
    if dataset is not None and config.held_out is not None:
        split = hold_out(len(dataset.length), config.held_out, config.seed)
    config = replace(config, learner=settled_learner(config.learner, spec, dataset))
    if config.keep_experience and method.online_target is None:
        raise UserError(f"the method {config.method!r} plays nothing online, so --keep-experience has nothing to keep.")
    check_workers(config, env, method)
    rollback.check(config, method)
    if config.pretrained is not None and not goes_on:  # what goes on has taken over already
        check_pretrained(config, spec, method)
    needed = memory.check_memory(config, spec, dataset, method)
    return Task(config, env, spec, method, dataset, split, needed)


def settled_learner(learner: LearnerConfig, spec: EnvSpec, dataset: Dataset | None) -> LearnerConfig:
    """The learner's settings with the kinds of agents settled by what the environment tells, or else the dataset."""
    if dataset is None:
        return with_kinds(learner, spec)
    told = spec._replace(kinds=spec.kinds or dataset.spec.kinds, agents=spec.agents or dataset.spec.agents)
    return with_kinds(learner, told, dataset.metadata.agents)
