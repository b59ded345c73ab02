"""Differences of two arms: paired, on equal seeds and data; of bootstrap replicates; and unpaired."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # the quantile of Student's t, without the second that `scipy.stats` takes

from ovmse.stats.estimates import CONFIDENCE


class PairedDifference(NamedTuple):
    """What one arm has more than another, over `n` pairs.

    value: the mean difference. low, high: its 95 % interval by Student's t (None with one pair). above: the share of
    pairs in which the first arm has more; a tie counts one half.
    """

    value: float
    low: float | None
    high: float | None
    above: float
    n: int


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> PairedDifference:
    """The mean of the pairs' differences with its interval.

    Pairs take out what equal seeds and data have in common, so that fewer of them tell as much as unpaired runs. The
    interval holds for differences that are about normal, or many.

    Args:
        ours, theirs: one score per pair, in the same order; at least one.

    Returns:
        The difference `ours` − `theirs`.
    """
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    mean, n, low, high = float(difference.mean()), len(difference), None, None
    if n > 1:
        half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * difference.std(ddof=1) / n**0.5)
        low, high = mean - half, mean + half
    above = float(np.mean((np.sign(difference) + 1) / 2))
    return PairedDifference(mean, low, high, above, n)


def bootstrapped_difference(ours: Sequence[float], theirs: Sequence[float]) -> PairedDifference:
    """The difference of two estimates by the replicates of a bootstrap, each pair of them from the same draw.

    The spread of the replicates *is* the estimate's standard error, however few they are, so that the interval does not
    shrink with their number: the mean ± t · s, with Student's t for the few from which s is known.

    Args:
        ours, theirs: one estimate per replicate, in the same order; at least two.

    Returns:
        The difference `ours` − `theirs`.
    """
    found = paired_difference(ours, theirs)
    assert found.low is not None and found.high is not None
    half = (found.high - found.low) / 2 * found.n**0.5
    return found._replace(low=found.value - half, high=found.value + half)


def unpaired_difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The difference of two means, `ours` − `theirs`, and its 95 % interval (low, high) by Welch's t.

    Args:
        ours, theirs: scores that have nothing in common, at least two of each.
    """
    samples = [np.asarray(scores, float) for scores in (ours, theirs)]
    value = float(samples[0].mean() - samples[1].mean())
    squares = np.array([scores.var(ddof=1) / len(scores) for scores in samples])
    if not squares.sum() > 0:
        return value, value, value
    freedom = squares.sum() ** 2 / sum(x**2 / (len(scores) - 1) for x, scores in zip(squares, samples, strict=True))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2) * squares.sum() ** 0.5)
    return value, value - half, value + half
