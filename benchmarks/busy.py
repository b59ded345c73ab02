"""How busy the machine was with other things while the benchmark measured."""

import os
import time
from typing import Any, NamedTuple

import psutil

from ovmse.system.cores import usable_cores


class Reading(NamedTuple):
    """Seconds of the clock, of this process and its ended children at work, and of its cores at work for anybody."""

    wall: float
    own: float
    cores: float


def read() -> Reading:
    """What the clocks say now."""
    there = psutil.cpu_times(percpu=True)
    return Reading(time.monotonic(), sum(os.times()[:4]), sum(at_work(there[core]) for core in usable_cores()))


def at_work(times: Any) -> float:
    """Seconds in which a core did anything; a guest's are among the user's already."""
    left_out = ("idle", "iowait", "guest", "guest_nice")
    return sum(value for name, value in times._asdict().items() if name not in left_out)


def since(before: Reading, after: Reading) -> dict[str, Any]:
    """The load average, and the share of this process's cores that others took between two readings."""
    wall, own, cores = (b - a for a, b in zip(before, after, strict=True))
    return {"load_average": os.getloadavg(), "taken_by_others": max(0.0, cores - own) / (wall * len(usable_cores()))}


def in_words(found: dict[str, Any]) -> str:
    """One line of it."""
    load = ", ".join(f"{x:.1f}" for x in found["load_average"])
    return f"others took {100 * found['taken_by_others']:.0f} % of these cores; load average {load}"
