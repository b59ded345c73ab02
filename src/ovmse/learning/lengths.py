"""At which few lengths episodes are computed, and how many of them at once."""

import math

import numpy as np

from ovmse.learning.parallel import batched
from ovmse.learning.replay import Replay

LENGTHS = (0.2, 0.3, 0.45, 0.67, 1.0)  # of the limit; each more takes seconds to compile

LONGER = (1.5, 2.25)  # than the dataset's longest episode

QUANTILES = (0.5, 0.85, 1.0)  # of a dataset's lengths

GROUP_ROWS = 96  # agents computed at once on a CPU; more than that leave a core's cache


def lengths_within(limit: int, data: Replay | None = None) -> list[int]:
    """The few lengths at which episodes yet to be played are computed; a group takes the shortest that holds it.

    They are shares of the limit, or where there is a dataset its own lengths, and steps from there to the limit.
    """
    if data is None:
        return sorted({math.ceil(limit * share) for share in LENGTHS})
    seen = lengths_of(data)
    longer = [math.ceil(seen[-1] * factor) for factor in LONGER]
    return sorted({min(limit, length) for length in (*seen, *longer, limit)})


def lengths_of(data: Replay) -> list[int]:
    """The few lengths at which a dataset's episodes are computed: half of them need no more than the first."""
    return sorted({math.ceil(x) for x in np.quantile(np.asarray(data.index.length), QUANTILES)})


def group_size(batch: int, n_agents: int) -> int:
    """How many of a batch's episodes are computed at once: all on an accelerator, on a CPU what a core's cache holds.

    The largest divisor of the batch with at most `GROUP_ROWS` agents and a quarter of the batch (more would be computed
    as long as the longest), but not below 4 episodes.
    """
    if batched():
        return batch
    divisors = [d for d in range(min(4, batch), batch + 1) if batch % d == 0]
    return max((d for d in divisors if d * n_agents <= GROUP_ROWS and 4 * d <= batch), default=divisors[0])
