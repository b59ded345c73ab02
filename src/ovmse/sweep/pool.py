"""The processes of a sweep: which run is started when, on which core, and what became of it."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import psutil

from ovmse.core.errors import number_of
from ovmse.runs import checkpoints
from ovmse.sweep.plan import Job, failure
from ovmse.sweep.process import order, start
from ovmse.training.memory import GIB


@runtime_checkable
class Stdin(Protocol):
    """The standard input of a process."""

    def close(self) -> None:
        """Ask the process to save and end."""


@runtime_checkable
class Process(Protocol):
    """A run's process, here or elsewhere, as `subprocess.Popen` has it."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, as `poll` found it."""

    @property
    def stdin(self) -> Stdin | None:
        """Closed, the process saves and ends."""

    def poll(self) -> int | None:
        """Whether it has ended: its exit code, or None."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Wait until it has ended."""


def start_process(job: Job, core: int) -> Process:
    """Start a job's process."""
    return start(order(job.config, job.failure, core), job.log)


@dataclass(frozen=True)
class Running:
    """A job under way. began: by the monotonic clock."""

    job: Job
    process: Process
    core: int
    began: float


class Pool:
    """Runs jobs, each after the one whose offline phase it takes over, as many at a time as there are cores for.

    waiting: the jobs to come, in order. running: those under way. stopped: why a job ended that is neither finished nor
    failed, by its directory: the same job goes on where it was.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        cores: Sequence[int],
        say: Callable[[str], None] = lambda text: None,
        start: Callable[[Job, int], Process] = start_process,
        memory: int | None = None,
    ):
        """cores: one for each job at a time; a core may come twice. memory: bytes for all jobs, by default what is
        available now."""
        before = [job.after for job in jobs if job.after is not None and not checkpoints.has_ended(job.after.run)]
        offline = {job.run: job for job in before}
        self.waiting: list[Job] = []
        for job in jobs:  # each offline phase stands before the first job that needs it
            if job.after is not None and (first := offline.pop(job.after.run, None)):
                self.waiting.append(first)
            self.waiting.append(job)
        self.running: list[Running] = []
        self.stopped: dict[Path, str] = {}
        self.workers = len(cores)
        self._cores, self._say, self._start = list(cores), say, start
        self._memory = psutil.virtual_memory().available if memory is None else memory
        self._compiled: set[tuple] = set()
        self._told = False

    def turn(self, stopping: bool = False) -> list[Job]:
        """Note which jobs ended, which are returned, and start others; `stopping`: ask those under way to save."""
        ended = [one for one in self.running if one.process.poll() is not None]
        self.running = [one for one in self.running if one.process.returncode is None]
        for one in ended:
            self._note(one)
        if stopping:
            self.waiting = []
            self.ask_to_stop()
        else:
            self._start_some()
        return [one.job for one in ended]

    def ask_to_stop(self) -> None:
        """Have the jobs under way save and end."""
        for one in self.running:
            close(one.process)

    def kill(self) -> None:
        """End the jobs under way at once; each goes on from its last checkpoint."""
        for one in self.running:
            one.process.kill()
            one.process.wait()
        self.running = []

    def _note(self, one: Running) -> None:
        close(one.process)
        self._cores.append(one.core)
        if checkpoints.has_ended(one.job.run):
            self._compiled.add(one.job.kind)
        elif failure(one.job) is None:
            self.stopped[one.job.run] = ended_by(one.process.wait(), one.job.log)

    def _start_some(self) -> None:
        ahead = {job.run for job in self.waiting} | {one.job.run for one in self.running}
        for job in list(self.waiting):
            if not self._cores:
                return
            if job.after is not None and not checkpoints.has_ended(job.after.run):
                if job.after.run not in ahead:  # it failed, or was stopped
                    self.waiting.remove(job)
                    if failure(job) is None:
                        self.stopped[job.run] = f"its offline phase was stopped: {self.stopped.get(job.after.run)}"
                continue
            if not self._has_memory_for(job):
                return
            self.waiting.remove(job)
            core = self._cores.pop(0)
            self.running.append(Running(job, self._start(job, core), core, time.monotonic()))

    def _has_memory_for(self, job: Job) -> bool:
        used = sum(map(self._needs, (one.job for one in self.running)))
        if not self.running or used + self._needs(job) <= self._memory:
            return True
        if not self._told:
            self._say(
                f"memory for {number_of(len(self.running), 'run')} at a time: the next needs about "
                f"{self._needs(job) / GIB:.1f} GiB, and of {self._memory / GIB:.1f} those under way need "
                f"{used / GIB:.1f}"
            )
        self._told = True
        return False

    def _needs(self, job: Job) -> int:
        return job.needs + (0 if job.kind in self._compiled else job.compiling)


MakePool = Callable[[Sequence[Job], Callable[[str], None]], Pool]
"""Makes a pool of jobs that says what is to be said by a function."""


def close(process: Process) -> None:
    """Close the standard input of a run's process, which is how it is asked to stop."""
    if process.stdin is not None:
        process.stdin.close()


def ended_by(code: int, log: Path) -> str:
    """Why a process ended that did not say that it failed, by its exit code (minus the signal that killed it)."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL), as systems do where memory is short"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"ended with code {code}: {said}"
