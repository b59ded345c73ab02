"""Intervals of estimates, ranks, and how well a ranking agrees with another. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovmse.stats.estimates import CONFIDENCE, RESAMPLES


def bootstrap_means(
    values: Float[np.ndarray, "P F E"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "P B"]:
    """Means of resampled fits (F) and episodes (E), each drawn with replacement; the same draws for all policies."""
    rng = np.random.default_rng(seed)
    _, fits, episodes = values.shape
    means = np.empty((len(values), resamples))
    for b in range(resamples):
        by_fit = np.bincount(rng.integers(fits, size=fits), minlength=fits) / fits
        by_episode = np.bincount(rng.integers(episodes, size=episodes), minlength=episodes) / episodes
        means[:, b] = (values @ by_episode) @ by_fit
    return means


def interval(means: Float[np.ndarray, "P B"]) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """The 95 % percentile interval of resampled means."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=1)
    return low, high


def order(scores: Sequence[float | None], marked: Sequence[bool]) -> list[int]:
    """Best first; marked ones behind all others, those without a score last. Ties keep their order."""

    def place(i: int) -> tuple[bool, bool, float]:
        score = scores[i]
        return score is None, marked[i], 0.0 if score is None else -score

    return sorted(range(len(scores)), key=place)


def ranks(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Ranks from 1, lowest first; ties share the mean of theirs."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    return below + (equal + 1) / 2


def spearman(x: Float[np.ndarray, " K"], y: Float[np.ndarray, " K"]) -> float | None:
    """Spearman's rank correlation; None where one of the two is constant."""
    a, b = ranks(x), ranks(y)
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def kendall(x: Float[np.ndarray, " K"], y: Float[np.ndarray, " K"]) -> float | None:
    """Kendall's τ-b, which corrects for ties; None where one of the two is constant."""
    signs: list[Int[np.ndarray, "K K"]] = [np.sign(v[:, None] - v).astype(int) for v in (x, y)]
    pairs = np.sqrt(float((signs[0] ** 2).sum()) * float((signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum() / pairs) if pairs > 0 else None


def regret_at_1(scores: Float[np.ndarray, " K"], truth: Float[np.ndarray, " K"], best: float) -> float:
    """The best true score less that of the highest estimate; where several are highest, the mean of theirs."""
    return best - float(truth[scores == scores.max()].mean())
