"""Worker processes that play whole episodes side by side, each with an environment of its own.

An episode that a worker did not bring to its end is played again by a new process: the same episode where the process
was killed from outside, one of another seed where it failed, hung or ended by itself. Its answer is one future, so that
no episode is lost, and none counted twice.
"""

import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.envs.guarded import again
from ovmse.envs.process import ProcessFault


@runtime_checkable
class Worker(Protocol):
    """What plays whole episodes, one after the other: a `ProcessEnv`, or one elsewhere."""

    @property
    def spec(self) -> EnvSpec:
        """The environment's."""

    def play(self, about: dict[str, Any], arrays: dict[str, np.ndarray], seconds: float) -> "Played":
        """See `ProcessEnv.play`."""

    def kill(self) -> None:
        """End it at once; whoever waits for its answer is told so."""


Played = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What `ovmse.policy.player.Player.play` returns."""


@dataclass(frozen=True)
class Limits:
    """When a worker is given up.

    seconds: the longest that a step or a reset may take. restarts: of all workers together, after which the pool gives
    up.
    """

    seconds: float
    restarts: int


class WorkerPool:
    """So many processes, started when the first episode is asked for.

    make: starts one. say: told of every restart.
    """

    def __init__(self, make: Callable[[], Worker], workers: int, limits: Limits, say: Callable[[str], None]):
        self.workers, self._shared = workers, _Shared(make, limits, say)
        self._started = False
        self.close = weakref.finalize(self, _close, self._shared)

    @property
    def restarts(self) -> int:
        """How many workers were started anew so far."""
        return self._shared.restarted

    def submit(self, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Future[Played]":
        """Play an episode (see `Player.play`) once a worker is free; those asked for first are played first.

        The future raises `UserError` where the environment fails too often.
        """
        if not self._started:
            self._started = True
            for number in range(self.workers):
                threading.Thread(target=_work, args=(self._shared,), name=f"worker {number}", daemon=True).start()
        future: Future[Played] = Future()
        self._shared.jobs.put((about, arrays, future))
        return future


class _Shared:
    """What the threads have in common, one of which feeds each process."""

    def __init__(self, make: Callable[[], Worker], limits: Limits, say: Callable[[str], None]):
        self.make, self.limits, self.say = make, limits, say
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.lock, self.restarted, self.closed = threading.Lock(), 0, False
        self.running: set[Worker] = set()

    def start(self) -> Worker:
        env = self.make()
        with self.lock:
            self.running.add(env)
        if self.closed:
            self.end(env)
        return env

    def end(self, env: Worker) -> None:
        with self.lock:
            self.running.discard(env)
        env.kill()

    def note(self, name: str, fault: ProcessFault) -> None:
        """Count a restart. Raises `UserError` where it is one too many."""
        most = self.limits.restarts
        with self.lock:
            self.restarted += 1
            number = self.restarted
        if number > most:
            raise UserError(
                f"{name}: {fault}. Workers were restarted {most} times before, which is the limit (--env-restarts)."
            ) from fault
        self.say(f"{name}: {fault}; episode played again, worker restarted ({number} of {most})")


def _close(shared: _Shared) -> None:
    """End all processes, and with them the threads; what was not played is not any more."""
    shared.closed = True
    with contextlib.suppress(queue.Empty):
        while (job := shared.jobs.get_nowait()) is not None:
            job[2].cancel()
    for env in list(shared.running):
        shared.end(env)
    shared.jobs.put(None)  # each thread hands it on


def _work(shared: _Shared) -> None:
    """Feed one process, as long as there is the pool."""
    env, held = None, None
    while not shared.closed and (job := shared.jobs.get()) is not None:
        about, arrays, future = job
        try:
            number = 0
            while True:
                env = env or shared.start()
                told = about | {"seed": again(about["seed"], number), "seconds": shared.limits.seconds}
                try:
                    future.set_result(env.play(told, {} if held is arrays else arrays, shared.limits.seconds))
                    held = arrays
                    break
                except ProcessFault as fault:
                    name, number = env.spec.name, number + (not fault.from_outside)
                    shared.end(env)
                    env, held = None, None
                    if shared.closed:
                        future.cancel()
                        break
                    shared.note(name, fault)
        except BaseException as error:  # whoever waits for the episode raises it
            future.set_exception(error)
    if env is not None:
        shared.end(env)
    shared.jobs.put(None)
