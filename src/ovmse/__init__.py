"""Offline-to-online multi-agent reinforcement learning.

A dataset goes in, a team is pre-trained on it, handed over, fine-tuned online, and judged::

    import ovmse

    result = ovmse.train(ovmse.Config(env="smax:3m", method="ovmse", data="smax-3m-medium"))
    ovmse.Run(result.out).plot()

The names are loaded when they are first used, so that importing the package takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovmse import envs as envs
    from ovmse.collection.record import record as record
    from ovmse.config import Config as Config, LearnerConfig as LearnerConfig
    from ovmse.core import schedules as schedules
    from ovmse.core.errors import UserError as UserError
    from ovmse.core.networks import Parts as Parts
    from ovmse.core.schedules import (
        Schedule as Schedule,
        constant as constant,
        cosine as cosine,
        exponential as exponential,
        linear as linear,
        step as step,
    )
    from ovmse.data.dataset import Dataset as Dataset
    from ovmse.data.exporting import export_dataset as export_dataset
    from ovmse.data.importing import import_dataset as import_dataset
    from ovmse.data.writer import DatasetWriter as DatasetWriter
    from ovmse.methods import METHODS as METHODS
    from ovmse.methods.exploration import (
        EpsilonGreedy as EpsilonGreedy,
        Independent as Independent,
        Sequential as Sequential,
    )
    from ovmse.methods.losses import CQL as CQL, SquaredError as SquaredError
    from ovmse.methods.method import Method as Method
    from ovmse.methods.targets import TD as TD, OfflineValueMemory as OfflineValueMemory
    from ovmse.ope.results import Selected as Selected
    from ovmse.ope.select import select as select
    from ovmse.ope.settings import Selecting as Selecting
    from ovmse.policy.load import load as load
    from ovmse.run import Run as Run
    from ovmse.training.improve import round_config as round_config
    from ovmse.training.train import Result as Result, train as train
    from ovmse.tuning.search import tune as tune
    from ovmse.tuning.settings import Tuning as Tuning

_PLACES = {
    "collection.record": ("record",),
    "config": ("Config", "LearnerConfig"),
    "core.errors": ("UserError",),
    "core.networks": ("Parts",),
    "core.schedules": ("Schedule", "constant", "cosine", "exponential", "linear", "step"),
    "data.dataset": ("Dataset",),
    "data.exporting": ("export_dataset",),
    "data.importing": ("import_dataset",),
    "data.writer": ("DatasetWriter",),
    "methods": ("METHODS",),
    "methods.exploration": ("EpsilonGreedy", "Independent", "Sequential"),
    "methods.losses": ("CQL", "SquaredError"),
    "methods.method": ("Method",),
    "methods.targets": ("TD", "OfflineValueMemory"),
    "ope.results": ("Selected",),
    "ope.select": ("select",),
    "ope.settings": ("Selecting",),
    "policy.load": ("load",),
    "run": ("Run",),
    "training.improve": ("round_config",),
    "training.train": ("Result", "train"),
    "tuning.search": ("tune",),
    "tuning.settings": ("Tuning",),
}
_MODULES = {"envs": "ovmse.envs", "schedules": "ovmse.core.schedules"}
_WHERE = {name: f"ovmse.{place}" for place, names in _PLACES.items() for name in names}

__all__ = sorted([*_WHERE, *_MODULES])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # here, since it takes as long as all the rest

        return version("ovmse")
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ovmse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
