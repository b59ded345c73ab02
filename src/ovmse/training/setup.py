"""From a configuration to a checked task: everything found and held against each other before anything is written."""

from collections.abc import Callable
from dataclasses import replace

from ovmse import methods
from ovmse.config import Config, LearnerConfig, with_kinds
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.envs.settings import make_by_options
from ovmse.methods.overrides import change_method
from ovmse.runs import checkpoints
from ovmse.system import jax_setup
from ovmse.training import memory, rollback
from ovmse.training.pretrained import check_pretrained
from ovmse.training.run import Task
from ovmse.training.trackers import check_trackers


def setup(config: Config, open_dataset: Callable[[str], Dataset] = Dataset.open) -> Task:
    """Find everything that a configuration names and check that it fits together, before anything is written.

    open_dataset: reads the dataset by its name or directory; whoever checks many runs may keep what was read.
    Raises `UserError` naming what does not.
    """
    goes_on = config.out is not None and checkpoints.names(config.out / checkpoints.FOLDER)
    if not goes_on:  # what goes on does so without a tracker that is not here, as with one that fails
        check_trackers(config.log)
    jax_setup.use()
    method = change_method(methods.find(config.method), config.change)
    env = make_by_options(config.env, config.env_settings, config.env_python)
    dataset = None
    if method.uses_data:
        if config.data is None:
            raise UserError(f"the method {config.method!r} learns from data: give --data (such as smax-3m-medium).")
        dataset = open_dataset(config.data)
        dataset.check_env(env.spec, config.allow_version_mismatch)
    config = replace(config, learner=settled_learner(config, env.spec, dataset))
    if config.keep_experience and method.online_target is None:
        raise UserError(f"the method {config.method!r} plays nothing online, so --keep-experience has nothing to keep.")
    rollback.check(config, method)
    if config.pretrained is not None and not goes_on:  # what goes on has taken over already
        check_pretrained(config, env.spec, method)
    return Task(config, env, method, dataset, memory.check_memory(config, env.spec, dataset, method))


def settled_learner(config: Config, spec: EnvSpec, dataset: Dataset | None) -> LearnerConfig:
    """The learner's settings with the kinds of agents settled by what the environment tells, or else the dataset."""
    if dataset is None:
        return with_kinds(config.learner, spec)
    told = spec._replace(kinds=spec.kinds or dataset.spec.kinds, agents=spec.agents or dataset.spec.agents)
    return with_kinds(config.learner, told, dataset.metadata.agents)
