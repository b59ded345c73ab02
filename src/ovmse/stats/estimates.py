"""Statistics of a run: pure functions of arrays, each with one definition that the report and the docs share.

Axes: ``S`` seeds, ``K`` evaluations of one seed, ``G`` points of a common grid, ``B`` bootstrap resamples.
A *score* is a win rate (a share in [0, 1]) or, where an environment cannot be won, a return.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
RESAMPLES = 2000
MAX_GRID = 200


class Estimate(NamedTuple):
    """An interquartile mean over ``n`` seeds and its 95 % bootstrap interval (None with one seed)."""

    value: float
    low: float | None
    high: float | None
    n: int


class Curve(NamedTuple):
    """Interquartile mean and pointwise 95 % interval on a common grid (no interval with one seed)."""

    x: Float[np.ndarray, " G"]
    middle: Float[np.ndarray, " G"]
    low: Float[np.ndarray, " G"] | None
    high: Float[np.ndarray, " G"] | None


def iqm(values: Float[np.ndarray, "..."], axis: int = 0) -> np.ndarray:
    """Interquartile mean along `axis`: the mean of what is left without the lowest and highest quarter.

    A quarter is rounded down to whole values, so up to three seeds it is the plain mean (Agarwal et al. 2021, rliable).
    It is `scipy.stats.trim_mean`, without the second that importing `scipy.stats` takes.
    """
    n = values.shape[axis]
    cut = n // 4
    return np.asarray(np.partition(values, (cut, n - 1 - cut), axis).take(range(cut, n - cut), axis).mean(axis))


def bootstrap_interval(
    *samples: np.ndarray, statistic: Callable[..., np.ndarray] = iqm, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """95 % percentile bootstrap interval of a statistic of samples, over their first axis (seeds, runs or episodes).

    Each sample is drawn from with replacement, whole and by itself; `seed` fixes the draw, so a report is reproducible.
    statistic: ``statistic(*samples, axis=-1)`` of what is drawn, resamples and all on the axes before the last.
    None where a sample has fewer than two. With few seeds the interval is too narrow: read it as a lower bound.
    The draws are those of `scipy.stats.bootstrap`, without the second that importing `scipy.stats` takes.
    """
    if min(map(len, samples)) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = [np.moveaxis(s, 0, -1)[..., rng.integers(len(s), size=(resamples, len(s)))] for s in samples]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(*drawn, axis=-1), (tail, 1 - tail), axis=-1)
    return np.asarray(low), np.asarray(high)


def with_interval(value: Any, interval: tuple[Any, Any] | None, n: int) -> Estimate:
    """An estimate over `n` seeds with what `bootstrap_interval` found."""
    low, high = (None, None) if interval is None else map(float, interval)
    return Estimate(float(value), low, high, n)


def estimate(values: Sequence[float] | np.ndarray) -> Estimate | None:
    """Interquartile mean of one number per seed, with its interval; None without values."""
    array = np.asarray(values, dtype=float)
    return with_interval(iqm(array), bootstrap_interval(array), array.size) if array.size else None


def common_grid(xs: Sequence[np.ndarray]) -> Float[np.ndarray, " G"]:
    """The x values of all seeds within the range that every seed covers.

    More than 200 of them are replaced by 200 even steps over the same range.
    Where the ranges do not meet, the grid is the one point that the shortest seed ends at.
    """
    start, end = max(x[0] for x in xs), min(x[-1] for x in xs)
    if start >= end:
        return np.array([end], dtype=float)
    grid = np.unique(np.concatenate(xs)).astype(float)
    grid = grid[(grid >= start) & (grid <= end)]
    return grid if grid.size <= MAX_GRID else np.linspace(start, end, MAX_GRID)


def curve(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> Curve:
    """Interquartile mean over seeds whose evaluations fall on slightly different x values.

    xs, ys: one increasing (K,) array of positions and one of scores for each seed. Every seed is read by
    linear interpolation on `common_grid(xs)`.
    """
    grid = common_grid(xs)
    scores = np.stack([np.interp(grid, x, y) for x, y in zip(xs, ys, strict=True)])
    return Curve(grid, iqm(scores), *(bootstrap_interval(scores, resamples=RESAMPLES // 2) or (None, None)))


def area_under_curve(steps: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"]) -> float:
    """Mean score over the environment steps spent: the trapezoid area divided by the span of `steps`.

    With one evaluation it is that evaluation's score.
    """
    span = steps[-1] - steps[0]
    return float(np.trapezoid(scores, steps) / span) if span > 0 else float(scores[-1])


def mean_within(steps: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"], start: float, end: float) -> float:
    """Mean score between two positions, by the trapezoid rule.

    Scores are read by linear interpolation at both ends; beyond the first and the last evaluation they stay as there.
    """
    inside = (steps > start) & (steps < end)
    grid = np.concatenate([[start], steps[inside], [end]])
    return area_under_curve(grid, np.interp(grid, steps, scores))


def first_tenth_change(
    before: float, steps: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"], budget: float
) -> float:
    """Mean score over the first tenth of the online budget minus the score before the handover; below 0 after a drop.

    budget: environment steps of the whole online phase. Unlike the deepest dip, a minimum of noisy evaluations, it is
    not biased by their noise, and more evaluations don't deepen it.
    """
    return mean_within(steps, scores, 0.0, 0.1 * budget) - before


def regret(reference: float, steps: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"]) -> float:
    """Cumulative regret: reference - score, integrated over environment steps by the trapezoid rule.

    Score units times environment steps. For win rates against 1: the environment steps that were as good as lost.
    A score above the reference counts against it (nothing is cut off). 0 with one evaluation.
    """
    return float(np.trapezoid(reference - scores, steps))


def dip(before: float, scores: Float[np.ndarray, " K"]) -> float:
    """The score before the handover minus the lowest score of the online phase; 0 if it never fell."""
    return max(0.0, before - float(scores.min()))


def recovered_at(before: float, steps: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"]) -> float | None:
    """Environment steps of the first evaluation after the lowest point whose score is at least `before`.

    0 if the score never fell below `before`; None if it never came back. Where the lowest score occurs more
    than once, its last occurrence counts.
    """
    if scores.min() >= before:
        return 0.0
    lowest = scores.size - 1 - int(np.argmin(scores[::-1]))
    back = np.flatnonzero(scores[lowest:] >= before)
    return float(steps[lowest + back[0]]) if back.size else None


def median_recovery(recovered: Sequence[float | None]) -> float | None:
    """Upper median of the environment steps until recovered; never counts as infinite, then None."""
    ordered = sorted(np.inf if r is None else r for r in recovered)
    median = ordered[len(ordered) // 2] if ordered else np.inf
    return float(median) if np.isfinite(median) else None
