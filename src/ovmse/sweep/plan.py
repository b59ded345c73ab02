"""What a sweep runs: a run for each cell, and before it the offline phase that it shares with others.

A run is known by its settings: its directory's name ends in a checksum of them. So it is the same run wherever it
stands in a grid, and whatever else the grid holds.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from ovmse import methods
from ovmse.config import NO_ENV, Config
from ovmse.core.settings import describe, flatten
from ovmse.data.dataset import Dataset
from ovmse.methods.method import ONLINE, Method
from ovmse.methods.overrides import change_method
from ovmse.runs import checkpoints
from ovmse.runs.directory import slug
from ovmse.runs.saved_config import read_config
from ovmse.sweep.grid import Cell, naming
from ovmse.system.files import read_json
from ovmse.system.progress import track
from ovmse.training.choose_env import with_env
from ovmse.training.setup import setup

CELLS, OFFLINE, LOGS, FAILED = "cells", "offline", "logs", "failed"
"""Directories of a sweep: the cells' runs, the shared offline phases, what each of them said, and why one failed."""
NO_MATTER = {"type", "out", "checkpoint_minutes", "checkpoints_kept", "keep_checkpoint", "env_seconds", "env_restarts",
             "env_python", "ray_address"}  # fmt: skip
"""Settings that change nothing of what a run finds."""
ONLINE_SETTINGS = {
    "online_env_steps", "schedule_env_steps", "updates_per_collect", "replay_env_steps", "evaluate_every_env_steps",
    "keep_experience", "guard_margin", "guard_patience",
}  # fmt: skip
"""Settings that are first read after the offline phase."""
ONLY_OFFLINE = "online_target=None"
"""The change that leaves a method its offline phase."""
SIZES = (
    "env", "env_settings", "data", "seeds", "offline_updates", "online_env_steps", "batch_episodes", "method",
    "episodes_per_collect", "updates_per_collect", "evaluate_episodes", "evaluate_every_env_steps",
)  # fmt: skip
"""What mostly decides how long a run takes."""


@dataclass(frozen=True)
class Failure:
    """What a file in `FAILED` says."""

    reason: str


@dataclass(frozen=True)
class Job:
    """A run of a sweep, by where it is. config: with its directory, and with the offline phase that it takes over.

    after: the run whose offline phase that is. needs, compiling: bytes of memory, and those that it needs beside while
    programs are compiled.
    """

    config: Config
    after: "Job | None" = None
    needs: int = 0
    compiling: int = 0

    @property
    def run(self) -> Path:
        """Its directory."""
        assert self.config.out is not None
        return self.config.out

    @property
    def name(self) -> str:
        """The last part of its directory."""
        return self.run.name

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell's, rather than an offline phase that cells share."""
        return self.run.parent.name == CELLS

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is the same for runs that take about as long as each other."""
        sizes = tuple(getattr(self.config, name) for name in SIZES)
        return (self.run.parent.name, *sizes, self.config.learner.hidden)

    @property
    def log(self) -> Path:
        """The file that holds what it said."""
        return self.run.parents[1] / LOGS / f"{self.name}.log"

    @property
    def last_log(self) -> Path:
        """The file that holds what it said last, or the offline phase that it waits for."""
        if self.after is None or checkpoints.has_ended(self.after.run):
            return self.log
        return self.after.log

    @property
    def failure(self) -> Path:
        """The file that tells why it failed, if it did."""
        return self.run.parents[1] / FAILED / f"{self.name}.json"


def placed(cell: Cell, out: Path) -> Job:
    """The run of a cell in a sweep's directory, which is a function of the cell's settings alone."""
    cell = replace(cell, config=with_env(cell.config))
    default = flatten(describe(with_env(Config())))
    mine = {k: v for k, v in flatten(describe(cell.config)).items() if k not in NO_MATTER and v != default.get(k)}
    return Job(replace(cell.config, out=out / CELLS / _name(cell.config, cell.config.method, mine)))


def with_offline_phase(job: Job, trusted: bool = False) -> Job:
    """The job, after the run whose offline phase it takes over; as it is where it ended or has none to take over.

    An offline phase that began goes on by the settings that it began with: what it depends on is the same.
    """
    config = job.config
    if checkpoints.has_ended(job.run) or config.pretrained is not None or config.env == NO_ENV:
        return job
    if (method := change_method(methods.find(config.method), config.change)).offline_loss is None:
        return job
    out = job.run.parents[1] / OFFLINE / _name(config, "offline", depends_on(config, method))
    if checkpoints.is_run(out):
        offline = read_config(out, trusted)
    else:
        change = (*config.change, ONLY_OFFLINE)
        offline = replace(config, change=change, out=out, guard_margin=None, keep_experience=False)
    return replace(job, config=replace(config, pretrained=out), after=Job(offline))


def depends_on(config: Config, method: Method) -> dict[str, Any]:
    """All that an offline phase depends on, as JSON."""
    kept = NO_MATTER | ONLINE_SETTINGS | {"pretrained", "method", "change"}
    settings = {name: value for name, value in describe(config).items() if name not in kept}
    parts = [field.name for field in fields(method) if field.name not in ONLINE or field.name == "acting_utilities"]
    own = config.method if ":" in config.method else None  # two functions of the user's own may have one name
    return {**settings, "method": {name: describe(getattr(method, name)) for name in parts}, "own": own}


def checked(cells: Sequence[Cell], jobs: Sequence[Job], console: Console | None) -> list[Job]:
    """The jobs of these cells, each checked as `ovmse train` would, and with the memory that it needs.

    Raises `UserError` naming the cell that can't be run.
    """
    open_dataset = lru_cache(maxsize=1)(Dataset.open)

    def check(job: Job) -> Job:
        own = None if job.after is not None else job.config.pretrained  # an offline phase of the sweep's comes first
        needed = dict(setup(replace(job.config, pretrained=own), open_dataset).needed_bytes)
        compiling = needed.pop("compiling")
        return replace(job, needs=sum(needed.values()), compiling=compiling)

    found: dict[int, Job] = {}
    offline: dict[Path, Job] = {}
    order = sorted(range(len(jobs)), key=lambda i: str(jobs[i].config.data))  # so that each dataset is read once
    for i in track(order, "checking", len(order), lambda i: 1, console):
        with naming(cells[i]):
            job = check(jobs[i])
            if (before := job.after) is not None and not checkpoints.has_ended(before.run):
                if before.run not in offline:
                    offline[before.run] = check(before)
                job = replace(job, after=offline[before.run])
            found[i] = job
    return [found[i] for i in range(len(jobs))]


def failure(job: Job) -> str | None:
    """Why a job failed, or the offline phase that it needs; None if neither did."""
    if (found := read_json(job.failure, Failure)) is not None:
        return str(found.reason)
    if job.after is None or (reason := failure(job.after)) is None:
        return None
    return f"its offline phase failed: {reason}"


def _name(config: Config, method: str, settings: dict[str, Any]) -> str:
    checksum = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{slug(f'{config.env}-{method}')[:80]}-{config.seed}-{checksum[:10]}"
