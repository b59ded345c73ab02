"""Statistics of a method over several tasks, as rliable defines them (Agarwal et al. 2021, arXiv:2108.13264).

A method's scores are one array of runs (seeds) for each task, the *strata*. Axes: ``S`` runs of a task, ``B`` bootstrap
resamples, ``G`` thresholds. Over different tasks, scores must mean the same: win rates, or returns scaled to [0, 1].
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from ovmse.stats.estimates import RESAMPLES, Curve, Estimate, bootstrap_interval, iqm, with_interval

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
    interval = bootstrap_interval(
        *tasks, statistic=lambda *drawn, axis: statistic(drawn), resamples=resamples, seed=seed
    )
    return with_interval(statistic(tasks), interval, sum(t.size for t in tasks))


def performance_profile(
    tasks: Strata, thresholds: Float[np.ndarray, " G"], resamples: int = RESAMPLES, seed: int = 0
) -> Curve:
    """Share of runs whose score exceeds each threshold τ, averaged over tasks, with pointwise 95 % intervals.

    rliable's run-score distribution: a score equal to τ does not exceed it. Resampled like `stratified_estimate`.
    """

    def above(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.stack([np.mean([(task > tau).mean(axis=axis) for task in drawn], axis=0) for tau in thresholds])

    interval = bootstrap_interval(*tasks, statistic=above, resamples=resamples, seed=seed)
    return Curve(thresholds, above(*tasks), *(interval or (None, None)))


def improvement(x: Strata, y: Strata, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Probability that a run of `x` scores higher than one of `y` on the same task, averaged over tasks.

    Within a task it is the Mann-Whitney statistic over the number of pairs: a tie counts one half. For the interval,
    the runs of `x` and `y` are resampled independently within each task. `Estimate.n` counts the runs of `x`.
    Raises `ValueError` where the numbers of tasks differ.
    """

    def chance(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        chances = []
        for mine, other in zip(drawn[: len(x)], drawn[len(x) :], strict=True):
            difference = mine[..., :, None] - other[..., None, :]
            chances.append(((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1)))
        return np.asarray(np.mean(chances, axis=0))

    value, interval = chance(*x, *y), bootstrap_interval(*x, *y, statistic=chance, resamples=resamples, seed=seed)
    return with_interval(value, interval, sum(t.size for t in x))
