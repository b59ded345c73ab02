"""One policy or several: how held-out episodes differ from what the cloned policy leads to expect of them.

Axes: C held-out choices, E held-out episodes, A actions. With r = −log π(a|o) − H(π(·|o)), the surprise of a choice
beyond the expected one, and v its variance under π, an episode has z = Σ r / sqrt(Σ v). If all episodes come from one
policy and π fits it, z has mean 0 and variance 1, and an episode's first choices do not foretell its later ones. Where
each episode is played by one of several policies, its first half does foretell its second: a surprising episode stays
surprising, and actions that π underrates in the one half are underrated in the other. That is measured as `agreement`:
a state that π fits badly mostly shows in one half, so the two halves tell a mixture from a poor fit better than the
variance of z does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ovmse.data.schema import starts
from ovmse.inspection.clone import Clone

SEVERAL, ONE = 0.35, 0.15
"""Agreement from which on there are several policies, and below which there is one. Our choice, by trials with scripted
teams on the states of two SMAX maps: single policies gave up to 0.15, mixtures of distinct ones 0.51 to 0.96."""
LEAST_VARIANCE = 0.01  # of a choice, nats² and for one-hot actions alike
MOST_PARTS = 10
MOST_COMPONENTS = 4
SHARPEST = 1 / 50  # of the range of returns: the least standard deviation of a component


class EpisodeLikelihood(NamedTuple):
    """Held-out episodes, (E,): number in the dataset, z, surprise (mean of r, nats), and return."""

    number: np.ndarray
    z: np.ndarray
    surprise: np.ndarray
    returns: np.ndarray


def episode_likelihood(clone: Clone, number: np.ndarray, returns: np.ndarray) -> EpisodeLikelihood:
    """z of every held-out episode; `number` and `returns` are those of all episodes, numbers ascending."""
    held, index = np.unique(clone.sample.episode, return_inverse=True)
    excess = np.bincount(index, clone.nll - clone.entropy)
    variance = np.bincount(index, clone.spread)
    z = excess / np.sqrt(np.maximum(variance, 1e-6))
    return EpisodeLikelihood(held, z, excess / np.bincount(index), returns[np.searchsorted(number, held)])


def agreement(clone: Clone) -> dict[str, float]:
    """How well the first half of an episode's choices foretells the second, over the held-out episodes.

    surprise: the mean r of both halves, as a correlation. actions: the residuals one-hot(a) − π of both halves, as a
    cosine over all episodes. Both are about 0 under one policy that π fits, 1 at most. Each is divided by the variance
    that was found or that π expects, whichever is more: what is left where a fit is all but perfect is no evidence.
    """
    _, index, size = np.unique(clone.sample.episode, return_inverse=True, return_counts=True)
    late = np.arange(len(index)) - starts(size)[index] >= size[index] // 2
    half, halves = 2 * index + late, 2 * len(size)
    taken = np.arange(clone.policy.shape[1]) == clone.sample.action[:, None]
    columns = [clone.nll - clone.entropy, clone.spread, 1 - (clone.policy**2).sum(axis=1), *(taken - clone.policy).T]
    sums = np.stack([np.bincount(half, column, halves) for column in columns]).reshape(-1, len(size), 2)[:, size >= 2]
    count = np.bincount(half, minlength=halves).reshape(-1, 2)[size >= 2]
    if not len(count):
        return {"surprise": 0.0, "actions": 0.0}
    (early, later), residuals = (sums[0] / np.sqrt(count)).T, sums[3:] / np.sqrt(count)
    expected = (sums[1:3] / count).sum(axis=1) + LEAST_VARIANCE * len(count)
    return {
        "surprise": _cosine(early - early.mean(), later - later.mean(), expected[0]),
        "actions": _cosine(residuals[..., 0], residuals[..., 1], expected[1]),
    }


def _cosine(u: np.ndarray, v: np.ndarray, least: Sequence[float] | np.ndarray = (0.0, 0.0)) -> float:
    """u · v over their lengths, whose squares count for at least the two in `least`."""
    size = np.sqrt(max((u**2).sum(), least[0]) * max((v**2).sum(), least[1]))
    return float((u * v).sum() / size) if size > 0 else 0.0


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    return _cosine(a - a.mean(), b - b.mean()) if len(a) else 0.0


def several(found: dict[str, float], episodes: int) -> str:
    """``one``, ``several`` or ``unclear``: agreement against the thresholds, and against three standard errors."""
    most = max(found.values())
    if most >= max(SEVERAL, 3 / np.sqrt(max(1, episodes))):
        return "several"
    return "one" if most < ONE and episodes >= 30 else "unclear"


def drift(values: np.ndarray) -> dict[str, float]:
    """Whether values change along their order: correlation with it, and how far means of up to 10 equal parts scatter.

    parts: (χ² − k) / sqrt(2 k) of the part means with k degrees of freedom, about 0 ± 1 without drift.
    """
    parts = np.array_split(values, min(MOST_PARTS, max(1, len(values) // 5)))
    std = values.std()
    if len(parts) < 2 or std == 0:
        return {"correlation": 0.0, "parts": 0.0}
    chi = sum(len(part) * ((part.mean() - values.mean()) / std) ** 2 for part in parts)
    free = len(parts) - 1
    return {
        "correlation": correlation(values, np.arange(len(values), dtype=float)),
        "parts": float((chi - free) / np.sqrt(2 * free)),
    }


def components(returns: np.ndarray, won: np.ndarray) -> list[dict[str, float]]:
    """The returns as a mixture of one to four normal distributions, their number chosen by BIC, lowest mean first.

    Each has a weight, mean, std, and win_rate, that of its episodes. A description, no test: one policy that wins or
    loses has two components. The standard deviation has a floor, as discrete returns would let it vanish.
    """
    values, index, count = np.unique(returns, return_inverse=True, return_counts=True)
    if len(values) > 1000:
        values = np.linspace(returns.min(), returns.max(), 1000)
        index = np.searchsorted(values, returns)
        count = np.bincount(index, minlength=1000)
    floor = max(float(np.ptp(values)) * SHARPEST, 1e-9)
    fits = [_em(values, count, k, floor) for k in range(1, min(MOST_COMPONENTS, len(values)) + 1)]
    _, share, parts = min(fits, key=lambda fit: (3 * len(fit[2]) - 1) * np.log(count.sum()) - 2 * fit[0])
    wins = share.T @ np.bincount(index, won, minlength=len(values)) / np.maximum(share.T @ count, 1e-12)
    rows = np.column_stack([parts, wins])[np.argsort(parts[:, 1])].tolist()
    return [dict(zip(("weight", "mean", "std", "win_rate"), row, strict=True)) for row in rows]


def _em(values: np.ndarray, count: np.ndarray, k: int, floor: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Expectation maximisation on values with multiplicities, from components on equal shares of the episodes.

    Returns the log-likelihood, each component's share of each value (V, K), and weight, mean and std of each (K, 3).
    """
    rank = (np.cumsum(count) - count / 2) / count.sum()
    responsibility = (np.minimum((rank * k).astype(int), k - 1)[:, None] == np.arange(k)).astype(float)
    before = -np.inf
    while True:
        share = responsibility * count[:, None]
        size = np.maximum(share.sum(axis=0), 1e-9)
        weight, mean = size / size.sum(), values @ share / size
        distance = values[:, None] - mean
        std = np.maximum(np.sqrt((share * distance**2).sum(axis=0) / size), floor)
        log = np.log(weight / (std * np.sqrt(2 * np.pi))) - 0.5 * (distance / std) ** 2
        each = np.logaddexp.reduce(log, axis=1)
        responsibility, log_likelihood = np.exp(log - each[:, None]), float(each @ count)
        if log_likelihood - before < 1e-7 * abs(log_likelihood) + 1e-9:
            return log_likelihood, responsibility, np.column_stack([weight, mean, std])
        before = log_likelihood


def figures(clone: Clone, judged: EpisodeLikelihood) -> dict[str, Any]:
    """What the clone says of the mixture, as JSON values."""
    found = agreement(clone)
    return {
        "policies": several(found, len(judged.z)),
        "agreement": found,
        "z_mean": float(judged.z.mean()),
        "z_std": float(judged.z.std()),
        "z_with_return": correlation(judged.z, judged.returns),
        "z_drift": drift(judged.z),
    }
