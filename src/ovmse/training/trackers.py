"""The trackers that `--log` names, each by its own client: one run of the tracker for each seed of a run.

No client is asked to send anything to a network unless its own settings or environment variables say so.
"""

import contextvars
import functools
import importlib.util
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ovmse.core.errors import UserError
from ovmse.core.literals import TrackerName
from ovmse.runs.metrics_file import PROGRESS

PROJECT = "ovmse"
"""The project (in MLflow the experiment) of all runs, unless the tracker's own environment variable names one."""
NEEDS: dict[TrackerName, str] = {
    "tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio",
}  # fmt: skip
"""The module of each tracker's client."""


LONGEST, TOGETHER = 500, 100
"""The most that MLflow takes: letters of a parameter, and parameters at once."""


class Tracked(NamedTuple):
    """What a tracker is told of one seed of the run in `out`. run_id: the tracker's run to go on with, if there is one.
    config: the run's config.json, flat."""

    out: Path
    seed: int
    run_id: str | None
    config: dict[str, Any]

    @property
    def group(self) -> str:
        """What the runs of all seeds have in common."""
        return self.out.resolve().name

    @property
    def name(self) -> str:
        """What this seed's run is called."""
        return f"{self.group}-seed-{self.seed}"

    def id(self) -> str:
        """The tracker's run that goes on, or a new name that nothing else has."""
        return self.run_id or f"{self.name}-{uuid.uuid4().hex[:8]}"


class Logged(NamedTuple):
    """A row as trackers take it. number: of the seed's evaluation, from 0. step: how far it is, in the phase's unit.
    values: ``PHASE/FIELD`` to number, of all that was measured."""

    number: int
    step: int
    values: dict[str, float]


@runtime_checkable
class Sink(Protocol):
    """One seed's run of a tracker. run_id: what it goes on by."""

    run_id: str

    def log(self, row: Logged) -> None:
        """Send a row."""

    def close(self, ended: bool) -> None:
        """Nothing more comes. ended: training did not stop or fail."""


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Raise `UserError` where a tracker's client is not installed."""
    for name in names:
        if importlib.util.find_spec(NEEDS[name]) is None:
            raise UserError(f'--log {name} needs the package {NEEDS[name]}: pip install "ovmse[{name}]".')


def logged(row: dict[str, Any], number: int) -> Logged:
    """A row of metrics.jsonl for a tracker: nulls left out, true and false as 1 and 0."""
    phase = row["phase"]
    values = {f"{phase}/{k}": float(v) for k, v in row.items() if v is not None and k not in ("phase", "seed")}
    return Logged(number, int(row[PROGRESS[phase]]), values)


class TensorBoard:
    """Event files in ``tensorboard/seed-N`` of the run's directory."""

    def __init__(self, about: Tracked):
        from tensorboardX import SummaryWriter

        self.run_id = f"seed-{about.seed}"
        self.writer = SummaryWriter(str(about.out / "tensorboard" / self.run_id))
        if about.run_id is None:
            self.writer.add_text("config", f"```json\n{json.dumps(about.config, indent=2)}\n```")

    def log(self, row: Logged) -> None:
        for name, value in row.values.items():
            self.writer.add_scalar(name, value, row.step)
        self.writer.flush()

    def close(self, ended: bool) -> None:
        self.writer.close()


class WandB:
    """Runs of a group; offline, in ``wandb/``, unless WANDB_MODE says otherwise."""

    def __init__(self, about: Tracked):
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it calls home all the same
        import wandb

        settings = wandb.Settings(console="off", silent=True)
        wandb.setup(settings)  # silent before it begins: else it asks for a key that is missing
        self.run_id = about.id()
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), group=about.group, name=about.name, id=self.run_id,
            resume="allow", config=about.config, mode=mode, reinit="create_new", settings=settings,
        )  # fmt: skip
        for phase, unit in PROGRESS.items():
            self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/{unit}")

    def log(self, row: Logged) -> None:
        self.run.log(row.values, step=row.number)

    def close(self, ended: bool) -> None:
        self.run.finish(exit_code=int(not ended))


class MLflow:
    """Runs of an experiment, in the store that MLflow is set to; without that in its own default, ``mlflow.db``."""

    def __init__(self, about: Tracked):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.client, self.metric = MlflowClient(), Metric
        if about.run_id is not None:
            self.run_id = about.run_id
            self.client.update_run(self.run_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if there is None else there.experiment_id
        tags = {"run": about.group, "seed": str(about.seed)}
        self.run_id = self.client.create_run(experiment, tags=tags, run_name=about.name).info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in about.config.items()]
        for first in range(0, len(params), TOGETHER):
            self.client.log_batch(self.run_id, params=params[first : first + TOGETHER])

    def log(self, row: Logged) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, [self.metric(k, v, now, row.step) for k, v in row.values.items()])

    def close(self, ended: bool) -> None:
        self.client.set_terminated(self.run_id, "FINISHED" if ended else "KILLED")


class Trackio:
    """Runs of a group, in Trackio's own folder unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise."""

    def __init__(self, about: Tracked):
        import trackio

        self.run_id = about.id()
        start = functools.partial(
            trackio.init, os.environ.get("TRACKIO_PROJECT", PROJECT), name=self.run_id, group=about.group,
            config=about.config, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.run = contextvars.copy_context().run(start)  # in a shared context it would end the other seeds' runs

    def log(self, row: Logged) -> None:
        self.run.log(row.values, step=row.step)

    def close(self, ended: bool) -> None:
        self.run.finish()


SINKS: dict[TrackerName, Callable[[Tracked], Sink]] = {
    "tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio,
}  # fmt: skip
