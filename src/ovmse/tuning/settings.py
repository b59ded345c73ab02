"""What a search is: one frozen dataclass, the settings that all of its trials share included."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from ovmse.config import Config
from ovmse.core.errors import UserError, check_known

FIRST_SEED = 1000


@dataclass(frozen=True)
class Tuning(Config):
    """A search: the methods, the budget that each of them gets, and the run that every trial starts from."""

    methods: tyro.conf.Positional[tuple[str, ...]] = ()
    """the methods to tune, each with the same budget; your own: module:attribute"""
    trials: int = 8
    """trials per method; the first one has the method's defaults"""
    score: Literal["auc", "final"] = "auc"
    """what to choose by: the mean score over the online phase, or the final one; without an online phase: the final"""
    space: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """what to search, such as offline_loss.alpha=log(0.1,10), explore.epsilon.start=uniform(0.1,0.5) or
    learner.hidden=choice(32,64); may be repeated; given once, it replaces the table in docs/tuning.md"""
    only_online: bool = False
    """search only what matters in the online phase, so that all trials of a method share one offline phase"""
    sampler: Literal["tpe", "random"] = "tpe"
    """how settings are proposed: half of the trials at random, then near the good ones (tpe), or all at random"""
    seed: int = FIRST_SEED
    """the first seed of every trial; report the settings that were found on other seeds"""
    out: Path | None = None
    """the directory of the search; the same command on the same directory goes on with it"""
    method: tyro.conf.Suppress[str] = ""
    pretrained: tyro.conf.Suppress[Path | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known("score", self.score, ("auc", "final"))
        check_known("sampler", self.sampler, ("tpe", "random"))
        if self.pretrained is not None:
            raise UserError("a search pretrains by itself: leave out the run whose offline phase is taken over.")

    def trial(self, method: str, **changes: Any) -> Config:
        """The run that a trial of `method` is, with `changes` to its fields."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Config)}
        return Config(**{**shared, "method": method, "out": None, **changes})


def from_config(config: Config) -> Tuning:
    """A search whose trials start from `config`, on seeds of their own."""
    return Tuning(**(vars(config) | {"method": "", "seed": FIRST_SEED}))
