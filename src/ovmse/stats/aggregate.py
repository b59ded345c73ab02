"""Statistics of a method over several tasks, as rliable defines them (Agarwal et al. 2021, arXiv:2108.13264).

A method's scores are one array of runs (seeds) for each task, the *strata*. Axes: ``S`` runs of a task, ``B`` bootstrap
resamples, ``G`` thresholds. Over different tasks, scores must mean the same: win rates, or returns scaled to [0, 1].
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from ovmse.stats.estimates import CONFIDENCE, RESAMPLES, Curve, Estimate, iqm

Strata = Sequence[Float[np.ndarray, "*batch _"]]
Statistic = Callable[[Strata], np.ndarray]


def pooled_iqm(tasks: Strata) -> np.ndarray:
    """Interquartile mean of all runs of all tasks in one heap (rliable's ``aggregate_iqm``)."""
    return iqm(np.concatenate(list(tasks), axis=-1), axis=-1)


def mean(tasks: Strata) -> np.ndarray:
    """Mean over tasks of each task's mean (``aggregate_mean``)."""
    return np.asarray(np.mean([t.mean(axis=-1) for t in tasks], axis=0))


def median(tasks: Strata) -> np.ndarray:
    """Median over tasks of each task's mean (``aggregate_median``)."""
    return np.asarray(np.median([t.mean(axis=-1) for t in tasks], axis=0))


def optimality_gap(tasks: Strata) -> np.ndarray:
    """How far the scores stay below 1 on average, those above 1 cut off (``aggregate_optimality_gap``, γ = 1)."""
    return np.asarray(1.0 - mean([np.minimum(t, 1.0) for t in tasks]))


def stratified_estimate(statistic: Statistic, tasks: Strata, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """A statistic of all runs and its 95 % percentile interval from a stratified bootstrap.

    Within each task as many runs as it has are drawn with replacement, independently of the other tasks; tasks are not
    drawn. So the interval tells what other seeds would change, not what other tasks would. `seed` fixes the draw.
    No interval where a task has a single run.
    """
    n = sum(t.size for t in tasks)
    value = float(statistic(tasks))
    if min(t.size for t in tasks) < 2:
        return Estimate(value, None, None, n)
    low, high = _percentiles(statistic(_resample(tasks, resamples, np.random.default_rng(seed))))
    return Estimate(value, float(low), float(high), n)


def performance_profile(
    tasks: Strata, thresholds: Float[np.ndarray, " G"], resamples: int = RESAMPLES, seed: int = 0
) -> Curve:
    """Share of runs whose score exceeds each threshold τ, averaged over tasks, with pointwise 95 % intervals.

    rliable's run-score distribution: a score equal to τ does not exceed it. Resampled like `stratified_estimate`.
    """
    if min(t.size for t in tasks) < 2:
        return Curve(thresholds, _above(tasks, thresholds), None, None)
    low, high = _percentiles(_above(_resample(tasks, resamples, np.random.default_rng(seed)), thresholds))
    return Curve(thresholds, _above(tasks, thresholds), low, high)


def improvement(x: Strata, y: Strata, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Probability that a run of `x` scores higher than one of `y` on the same task, averaged over tasks.

    Within a task it is the Mann-Whitney statistic over the number of pairs: a tie counts one half. For the interval,
    the runs of `x` and `y` are resampled independently within each task. `Estimate.n` counts the runs of `x`.
    Raises `ValueError` where the numbers of tasks differ.
    """
    n = sum(t.size for t in x)
    value = float(_improvement(x, y))
    if min(t.size for t in (*x, *y)) < 2:
        return Estimate(value, None, None, n)
    rng = np.random.default_rng(seed)
    low, high = _percentiles(_improvement(_resample(x, resamples, rng), _resample(y, resamples, rng)))
    return Estimate(value, float(low), float(high), n)


def _resample(tasks: Strata, resamples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """For each task (S,) an array (B, S) of runs drawn with replacement."""
    return [t[rng.integers(t.size, size=(resamples, t.size))] for t in tasks]


def _percentiles(values: Float[np.ndarray, "B *rest"]) -> tuple[np.ndarray, np.ndarray]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def _above(tasks: Strata, thresholds: Float[np.ndarray, " G"]) -> np.ndarray:
    """(*batch, G): shares above each threshold, from runs that are sorted once and then counted."""
    shares = []
    for task in tasks:
        ordered = np.sort(np.atleast_2d(task), axis=-1)
        below = np.stack([np.searchsorted(row, thresholds, side="right") for row in ordered])
        shares.append((1 - below / task.shape[-1]).reshape(*task.shape[:-1], thresholds.size))
    return np.asarray(np.mean(shares, axis=0))


def _improvement(x: Strata, y: Strata) -> np.ndarray:
    chances = []
    for mine, other in zip(x, y, strict=True):
        difference = mine[..., :, None] - other[..., None, :]
        chances.append(((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1)))
    return np.asarray(np.mean(chances, axis=0))
