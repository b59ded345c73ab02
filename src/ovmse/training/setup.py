"""From a configuration to a checked task: everything found and held against each other before anything is written."""

from collections.abc import Callable

from ovmse import envs, methods
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.envs.settings import parse_settings
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
    check_trackers(config.log)
    jax_setup.use()
    method = change_method(methods.find(config.method), config.change)
    env = envs.make(config.env, **parse_settings(config.env_settings))
    dataset = None
    if method.uses_data:
        if config.data is None:
            raise UserError(f"the method {config.method!r} learns from data: give --data (such as smax-3m-medium).")
        dataset = open_dataset(config.data)
        dataset.check_env(env.spec, config.allow_version_mismatch)
    if config.keep_experience and method.online_target is None:
        raise UserError(f"the method {config.method!r} plays nothing online, so --keep-experience has nothing to keep.")
    rollback.check(config, method)
    goes_on = config.out is not None and checkpoints.names(config.out / checkpoints.FOLDER)
    if config.pretrained is not None and not goes_on:  # what goes on has taken over already
        check_pretrained(config, env.spec, method)
    return Task(config, env, method, dataset, memory.check_memory(config, env.spec, dataset, method))
