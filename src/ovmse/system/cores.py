"""The processor's cores that this process may use."""

import os


def usable_cores() -> list[int]:
    """Their numbers: those that the system lets the process run on, or all where it can't be told."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(core: int) -> None:
    """Run on one core from now on, where the system can do that. Threads that are there already stay where they are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
