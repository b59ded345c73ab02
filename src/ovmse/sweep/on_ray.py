"""The runs of a sweep as tasks of Ray, on this machine or on a cluster whose machines have one file system.

A task starts the run's process where Ray puts it, and waits for it: that is the process that a local sweep starts, with
its log, its failure and its lock in the sweep's directory.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ovmse.sweep.plan import Job
from ovmse.sweep.pool import MakePool, Pool
from ovmse.sweep.process import carry_out, order
from ovmse.system.cores import usable_cores
from ovmse.system.ray_client import connect

CANCELLED = 130
SECONDS = 0.1


class Task:
    """A run under way in Ray, with what a `Pool` asks of a process: `stdin` is closed to have it save and end."""

    def __init__(self, ray: Any, reference: Any, log: Path):
        self._ray, self._reference, self._log, self._asked = ray, reference, log, False
        self.returncode: int | None = None
        self.stdin = self

    def poll(self) -> int | None:
        """The exit code of the run's process; None while it is under way, or waits for a place."""
        if self.returncode is None and self._ray.wait([self._reference], timeout=0)[0]:
            self.returncode = self._ended()
        return self.returncode

    def close(self) -> None:
        """Have the run save and end; one that has not begun is not begun."""
        if not self._asked and self.poll() is None:
            self._ray.cancel(self._reference)
        self._asked = True

    def kill(self) -> None:
        """Leave the run to itself; it notices, saves and ends."""
        self._ray.cancel(self._reference, force=True)

    def wait(self) -> int:
        """Wait for the exit code."""
        while (code := self.poll()) is None:
            time.sleep(SECONDS)
        return code

    def _ended(self) -> int:
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.TaskCancelledError:
            return CANCELLED
        except self._ray.exceptions.RayError as error:  # its worker or its machine is gone; the next sweep goes on
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"\nRay: {' '.join(str(error).split())}\n")
            return 1


@contextmanager
def connected(address: str, workers: int | None) -> Iterator[MakePool]:
    """Ray at an address, or one of this machine alone, which ends with the sweep.

    workers: runs at the same time, by default one for each core that this process may use, or that the cluster has.
    Gives what makes a pool, whose runs are tasks of one core and the memory that they need, or else all of a machine.
    Raises `UserError` where Ray is not installed, or can't be reached.
    """
    ray = connect(address, workers or len(usable_cores()))
    try:
        task, machines = ray.remote(carry_out), [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = max(resources.get("memory", 0) for resources in machines)

        def start(job: Job, place: int) -> Task:
            needs = min(job.needs + job.compiling, most)
            wanted = task.options(num_cpus=1, memory=needs, max_retries=0, name=job.name)
            words = order(job.config, job.failure), str(job.log), str(Path.cwd())
            return Task(ray, wanted.remote(*words), job.log)

        places = range(workers or int(ray.cluster_resources()["CPU"]))
        yield lambda jobs, say: Pool(jobs, places, say, start, memory=sys.maxsize)  # where there is memory, Ray knows
    finally:
        ray.shutdown()
