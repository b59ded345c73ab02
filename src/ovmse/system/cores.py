"""The processor's cores that this process may use."""

import os
import random
import socket


def usable_cores() -> list[int]:
    """Their numbers: those that the system lets the process run on, or all where it can't be told."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(core: int) -> None:
    """Run on one core from now on, where the system can do that. Threads that are there already stay where they are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def claimed(by: str = "ovmse") -> int:
    """A core that this process may use and that no other process of this machine has claimed, or any if all are.

    by: in whose name; those of others are no matter.
    A claim is a name of Linux's abstract sockets, which one process can have, and which goes with it.
    """
    for core in usable_cores():
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0{by}-core-{core}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # it stays open for as long as the process
        return core
    return random.choice(usable_cores())
