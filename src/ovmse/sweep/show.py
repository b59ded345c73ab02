"""What the user sees while a sweep goes on: one bar for all cells, and a line for each run that ends."""

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ovmse.runs.metrics_file import read_summary
from ovmse.sweep.plan import Job
from ovmse.sweep.pool import Pool
from ovmse.system.progress import ProgressBar, duration

Seconds = Mapping[Hashable, float]
"""How long a run takes, by its kind."""


def seconds_of(jobs: Sequence[Job]) -> dict[Hashable, float]:
    """How long the finished ones of these runs took, by kind: the mean."""
    found: dict[Hashable, list[float]] = {}
    for job in jobs:
        taken: Any = (read_summary(job.run) or {}).get("wall_s")
        if isinstance(taken, int | float):
            found.setdefault(job.kind, []).append(float(taken))
    return {kind: float(np.mean(taken)) for kind, taken in found.items()}


def seconds_left(
    known: Seconds, coming: Sequence[Hashable], running: Sequence[tuple[Hashable, float]], workers: int
) -> float | None:
    """How long a sweep will take yet: each run as long as the finished ones of its kind, or else as the mean of all.

    coming: the kinds of the runs to come; running: (kind, seconds so far); None as long as nothing is known.
    """
    if not known:
        return None
    mean = float(np.mean(list(known.values())))
    now = [max(0.0, known.get(kind, mean) - elapsed) for kind, elapsed in running]
    work = sum(now) + sum(known.get(kind, mean) for kind in coming)
    return max([work / workers, *now])


def in_words(pool: Pool, cells: int, done: int) -> str:
    """How many cells are done and to do, and how many runs are under way, shared offline phases among them."""
    offline = sum(not one.job.is_cell for one in pool.running)
    beside = f" ({offline} offline)" if offline else ""
    to_do = sum(job.is_cell for job in pool.waiting)
    return f"{done} of {cells} cells done, {len(pool.running)} running{beside}, {to_do} to do"


def show(bar: ProgressBar, pool: Pool, done: int, known: Seconds) -> None:
    """Show where a sweep is. known: how long runs take."""
    now = time.monotonic()
    running = [(one.job.kind, now - one.began) for one in pool.running]
    left = seconds_left(known, [job.kind for job in pool.waiting], running, pool.workers)
    at = in_words(pool, bar.total or 0, done)
    bar.update(done, at, "" if left is None else f"about {duration(left)} left")
