"""How a time is taken: several repeats, the median and the spread, and everything waited for."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

WARM_UP = 2  # calls before the first that counts: the first compiles, the second meets its memory warm


class Spread(NamedTuple):
    """Repeats of a measurement: their median, smallest and largest, in the measurement's unit."""

    median: float
    low: float
    high: float
    repeats: int


def spread(values: list[float]) -> Spread:
    """The repeats in short."""
    return Spread(float(np.median(values)), min(values), max(values), len(values))


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds until the call and everything that it started on a device is done."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def measure(call: Callable[[], object], repeats: int) -> Spread:
    """Seconds of a call that is already compiled."""
    return spread([seconds_of(call) for _ in range(repeats)])


def units_for(call: Callable[[int], object], seconds: float) -> int:
    """How many units of work (updates, iterations) make `call` last about so many seconds; compiles it on the way."""
    for _ in range(WARM_UP):
        jax.block_until_ready(call(1))
    units, took = 1, seconds_of(lambda: call(1))
    while took < seconds / 4 and units < 2**24:
        units = units * 4 if took < seconds / 16 else int(units * seconds / took)
        took = seconds_of(lambda: call(units))  # noqa: B023
    return max(1, round(units * seconds / took))


def beyond_nothing(call: Callable[[int], object], repeats: int, seconds: float) -> list[float]:
    """Seconds per unit of work of a call, less what it takes to do no unit at all; `seconds` of work per repeat."""
    for _ in range(WARM_UP):
        jax.block_until_ready(call(1))
    nothing = min(seconds_of(lambda: call(0)) for _ in range(repeats))
    units = 1
    while (took := seconds_of(lambda: call(units)) - nothing) < seconds / 2 and units < 2**24:  # noqa: B023
        units = 4 * units if took < seconds / 16 else math.ceil(units * seconds / took)
    return [max(seconds_of(lambda: call(units)) - nothing, 1e-9) / units for _ in range(repeats)]


def interleaved(
    calls: Mapping[str, Callable[[int], object]], repeats: int, seconds: float
) -> dict[str, tuple[list[float], int]]:
    """Seconds per unit of several calls, timed in turns (A, B, A, B, …), so that a slow moment meets all of them.

    Every call takes the units of work to do; each turn lasts about `seconds`. By name: the repeats, and the units.
    """
    units = {name: units_for(call, seconds) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds_of(lambda: call(units[name])) / units[name])  # noqa: B023
    return {name: (taken[name], units[name]) for name in calls}


def ratios(a: list[float], b: list[float]) -> Spread:
    """a / b, turn by turn."""
    return spread([x / y for x, y in zip(a, b, strict=True)])
