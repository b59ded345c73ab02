"""Intervals of estimates, ranks, and how well a ranking agrees with another. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
import scipy  # its `stats` are loaded when they are first used: that takes a second
from jaxtyping import Float

from ovmse.stats.estimates import CONFIDENCE, RESAMPLES


def bootstrap_means(
    values: Float[np.ndarray, "P F E"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "P B"]:
    """Means of resampled fits (F) and episodes (E), each drawn with replacement; the same draws for all policies."""
    rng = np.random.default_rng(seed)

    def drawn(n: int) -> Float[np.ndarray, " n"]:
        return np.bincount(rng.integers(n, size=n), minlength=n) / n

    means = np.empty((len(values), resamples))
    for b in range(resamples):
        by_fit, by_episode = (drawn(n) for n in values.shape[1:])
        means[:, b] = values @ by_episode @ by_fit
    return means


def interval(means: Float[np.ndarray, "P B"]) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """The 95 % percentile interval of resampled means."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=1)
    return low, high


def order(scores: Sequence[float | None], marked: Sequence[bool]) -> list[int]:
    """Best first; marked ones behind all others, those without a score last. Ties keep their order."""
    return sorted(range(len(scores)), key=lambda i: (scores[i] is None, marked[i], -(scores[i] or 0.0)))


def spearman(x: Float[np.ndarray, " K"], y: Float[np.ndarray, " K"]) -> float | None:
    """Spearman's rank correlation; None where one of the two is constant."""
    return None if _constant(x, y) else float(scipy.stats.spearmanr(x, y).statistic)


def kendall(x: Float[np.ndarray, " K"], y: Float[np.ndarray, " K"]) -> float | None:
    """Kendall's τ-b, which corrects for ties; None where one of the two is constant."""
    return None if _constant(x, y) else float(scipy.stats.kendalltau(x, y).statistic)


def _constant(*values: np.ndarray) -> bool:
    return any(len(np.unique(one)) < 2 for one in values)


def regret_at_1(scores: Float[np.ndarray, " K"], truth: Float[np.ndarray, " K"], best: float) -> float:
    """The best true score less that of the highest estimate; where several are highest, the mean of theirs."""
    return best - float(truth[scores == scores.max()].mean())
