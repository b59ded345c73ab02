"""What a selection is: the runs, the log, how policies are evaluated on it, and by what they are ranked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from ovmse.config import LearnerConfig, check_numbers
from ovmse.core.errors import UserError, check_known, check_share
from ovmse.learning.fqe import FitSettings, fit_settings

Score = Literal["fqe_low", "fqe", "own_value", "coverage", "agent_coverage", "matching_return"]
Checkpoints = Literal["all", "offline", "last"]
SCORES: tuple[Score, ...] = get_args(Score)
UPDATES = (1_000, 2_000, 4_000)
"""Of every fit, where it is not said: the first with which the estimates settle."""


@dataclass(frozen=True)
class Selecting:
    """A selection among the teams of several runs, by a log alone."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """the runs whose teams are candidates; every seed is one of its own"""
    data: str | None = None
    """the dataset to judge by: a directory, or the name of one that comes with the package; best one not trained on"""
    checkpoints: Checkpoints = "all"
    """the teams at the end of the offline phase (offline), those kept on the way too (all), or at a run's end (last)"""
    score: Score = "fqe_low"
    """what to rank by: the lower end of the interval of fitted Q evaluation, or a column of the table"""
    updates: int | None = None
    """gradient updates of every fit; by default 1,000, doubled while estimates have not settled, up to 4,000"""
    fits: int = 1
    """fits of each policy, from other first networks and with other batches"""
    gamma: float | None = None
    """discount factor γ per environment step, of the estimates and of matching returns; by default the runs' own"""
    learning_rate: float = 5e-4
    """step size of the optimiser, per update"""
    target_rate: float = 0.05
    """share of the fitted network mixed into its target network at every update"""
    batch_episodes: int = 32
    """episodes in a training batch"""
    hidden: int = 64
    """units of the evaluating network's recurrent layer"""
    match: float = 1.0
    """an episode follows a policy if so large a share of its joint choices is the policy's"""
    least_matches: int = 20
    """episodes that must follow a policy, else there is no matching return"""
    least_coverage: float = 0.05
    """a policy is marked, and ranked behind the others, if a smaller share of the joint choices is the policy's"""
    seed: int = 0
    """seed of the fits and of the bootstrap"""
    truth: bool = False
    """compare with the greedy scores that the runs recorded; no part of the choice, to measure what it is worth"""
    allow_version_mismatch: bool = False
    """accept runs of another version of the environment, or of other settings, than the dataset's"""
    trust_code: bool = False
    """import and run the environments or methods of somebody's own that the runs name"""
    out: Path | None = None
    """the directory to write into; by default the next free runs/selection"""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run's directory, such as runs/smax-3m-ovmse.")
        if self.data is None:
            raise UserError("policies are judged by a log: give --data (such as smax-3m-medium).")
        check_numbers(self, ("gamma", "match", "least_coverage"))
        check_share("--target-rate", self.target_rate)
        for name, kind in (("score", Score), ("checkpoints", Checkpoints)):
            check_known(name, getattr(self, name), get_args(kind))

    def fit(self, updates: int) -> FitSettings:
        """How each team's value is fitted, by so many updates."""
        gamma = LearnerConfig.gamma if self.gamma is None else self.gamma
        learner = LearnerConfig(hidden=self.hidden, gamma=gamma, learning_rate=self.learning_rate)
        return fit_settings(
            learner,
            self.batch_episodes,
            updates,
            target_rate=self.target_rate,
            fits=self.fits,
            seed=self.seed,
        )
