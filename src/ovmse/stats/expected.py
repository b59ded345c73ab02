"""Expected online performance: what the best of k tried settings is worth, for every k."""

from math import comb

import numpy as np
from jaxtyping import Float


def expected_best(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Expected maximum of k of the n `scores`, drawn uniformly without replacement, for k = 1 … n. Exact.

    The i-th smallest score is the maximum of C(i−1, k−1) of the C(n, k) subsets. The first value is the mean, the last
    the maximum. Source: expected online performance, Kurenkov & Kolesnikov 2022 (arXiv 2110.04156).
    """
    ordered, n = np.sort(scores), len(scores)
    return np.array(
        [sum(comb(i - 1, k - 1) / comb(n, k) * float(ordered[i - 1]) for i in range(k, n + 1)) for k in range(1, n + 1)]
    )
