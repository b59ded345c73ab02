"""Offline-to-online multi-agent reinforcement learning.

A dataset goes in, a team is pre-trained on it, handed over, fine-tuned online, and judged::

    import ovmse

    result = ovmse.train(ovmse.Config(env="smax:3m", method="ovmse", data="smax-3m-medium"))
"""

from ovmse import envs, schedules
from ovmse.config import Config
from ovmse.data import Dataset, DatasetWriter, export_dataset, import_dataset, record
from ovmse.errors import UserError
from ovmse.learner import LearnerConfig
from ovmse.method import CQL, TD, EpsilonGreedy, Independent, Method, Remember, Sequential, SquaredError
from ovmse.methods import METHODS
from ovmse.schedules import Schedule, constant, cosine, exponential, linear, step
from ovmse.selection import Selected, Selecting, select
from ovmse.train import Result, train
from ovmse.tuning import Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "CQL",
    "METHODS",
    "TD",
    "Config",
    "Dataset",
    "DatasetWriter",
    "EpsilonGreedy",
    "Independent",
    "LearnerConfig",
    "Method",
    "Remember",
    "Result",
    "Schedule",
    "Selected",
    "Selecting",
    "Sequential",
    "SquaredError",
    "Tuning",
    "UserError",
    "constant",
    "cosine",
    "envs",
    "exponential",
    "export_dataset",
    "import_dataset",
    "linear",
    "record",
    "schedules",
    "select",
    "step",
    "train",
    "tune",
]
