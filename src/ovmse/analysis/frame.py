"""A run's metrics as a table of pandas. Importing this module imports pandas."""

import numpy as np
import pandas as pd

from ovmse.runs.metrics_file import COLUMNS, FLAG, PROGRESS, RunRecord

COUNTS = ("step", "env_steps", "updates", "episodes")
WHOLE = 2.0**53
"""From here on not every whole number is a float."""


def metrics_frame(run: RunRecord) -> pd.DataFrame:
    """The metrics of a run, one row per evaluation and seed, in order of phase, `step` and seed.

    Columns: ``phase``; ``step``, which is the same for all seeds at one evaluation: how far the slowest of them was, in
    gradient updates, or environment steps (online); ``seed``; then the fields of docs/metrics.md, the environment's own
    measures last. NaN, or NA in ``rolled_back``, where nothing was measured.
    """
    traces = [pd.DataFrame({"phase": t.phase, "seed": t.seed, **t.columns}) for t in run.all_traces]
    frame = pd.concat(traces, ignore_index=True)
    at = frame["phase"].map({phase: i for i, phase in enumerate(PROGRESS)})
    evaluation = frame.groupby(["phase", "seed"]).cumcount()
    progress = np.where(frame["phase"] == "online", frame["env_steps"], frame["updates"])
    frame["step"] = pd.Series(progress).groupby([frame["phase"], evaluation]).transform("min")
    frame = frame.assign(at=at).sort_values(["at", "step", "seed"], kind="stable", ignore_index=True)
    frame[FLAG] = frame[FLAG].astype("boolean")
    for name in COUNTS:
        if ((frame[name] % 1 == 0) & (frame[name] < WHOLE)).all():
            frame[name] = frame[name].astype("int64")
    return frame[["phase", "step", "seed", *COLUMNS, *run.measures]]
