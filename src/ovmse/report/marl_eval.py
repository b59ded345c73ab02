"""A comparison in the JSON format of InstaDeep's marl-eval (Gorsane et al. 2022, arXiv:2209.10485; id-marl-eval 0.0.4).

``{environment: {task: {algorithm: {seed_N: {step_K: {step_count, elapsed_time, metrics}, absolute_metrics}}}}}``, every
metric a list with one number: the mean over an evaluation's episodes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.analysis.comparison import Comparison
from ovmse.analysis.results import RunSummary
from ovmse.runs.metrics_file import PROGRESS, RunRecord, counted
from ovmse.system.files import write_text


def write(found: Comparison, path: Path) -> None:
    """Write the seeds that count of all runs of a comparison.

    Steps are the evaluations of the online phase (of the offline phase in a run without one). step_count: environment
    steps (gradient updates offline). elapsed_time: seconds since the first evaluation written; 0 without a
    clock. absolute_metrics: the last evaluation, since no best policy is chosen and evaluated anew; of a seed that
    diverged, the worst there is (`as_ended`). Steps are the evaluations with a finite score.
    """
    write_text(path, json.dumps(tree(found), indent=1, allow_nan=False) + "\n")


def tree(found: Comparison) -> dict[str, Any]:
    """The nested dictionaries that `write` writes."""
    metrics = ("win_rate", "return") if found.score == "win_rate" else (found.score,)
    whole: dict[str, Any] = {}
    for run, result, task, method in zip(found.runs, found.results, found.tasks, found.methods, strict=True):
        environment, _, short = task.partition(":")  # a name without a colon stands for both
        algorithms = whole.setdefault(environment, {}).setdefault(short or environment, {})
        name = method.replace(", ", " ").replace(",", " ")  # marl-eval does not allow commas
        algorithms[name] = _seeds(run, result, metrics)
    return whole


def unfit(found: Comparison) -> list[str]:
    """A sentence if marl-eval could not stack these runs: it needs the same seeds and evaluations everywhere."""
    runs = [seeds for tasks in tree(found).values() for algorithms in tasks.values() for seeds in algorithms.values()]
    sizes = {(len(seeds), len(steps)) for seeds in runs for steps in seeds.values()}
    methods = {frozenset(found.methods[i] for i in found.of_task(task)) for task in found.tasks}
    if len(sizes) == len(methods) == 1:
        return []
    return [
        "marl_eval.json: the runs differ in the number of seeds or evaluations, or in the methods by environment; "
        "marl-eval itself needs all of them equal."
    ]


def _seeds(run: RunRecord, result: RunSummary, metrics: tuple[str, ...]) -> dict[str, Any]:
    seeds = {}
    for trace in counted(run.traces(result.phase)):
        there = np.all([np.isfinite(trace.columns[m]) for m in metrics], axis=0)
        there[len(there) - trace.lost :] = False
        columns = {name: values[there] for name, values in trace.columns.items()}
        rows = [{m: [float(columns[m][k])] for m in metrics} for k in range(int(there.sum()))]
        clock = np.nan_to_num(columns["wall_s"] - columns["wall_s"][:1])
        counts = columns[PROGRESS[trace.phase]]
        steps: dict[str, Any] = {
            f"step_{k}": {"step_count": int(counts[k]), "elapsed_time": float(clock[k])} | row
            for k, row in enumerate(rows)
        }
        seeds[f"seed_{trace.seed}"] = steps | {"absolute_metrics": {m: [float(trace.columns[m][-1])] for m in metrics}}
    return seeds
