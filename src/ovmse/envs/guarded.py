"""A host environment that may fail: each call has a time limit, and what it returns is checked before it is used.

An episode in which something fails is discarded and played again, with another seed, in an environment made anew.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import Observation, StepResult
from ovmse.envs.measures import measures_of
from ovmse.envs.protocol import HostEnvironment, check_legal, check_observation, check_result, unpacked
from ovmse.system.plugins import same_directory


class EnvFault(Exception):
    """What an environment did wrong in an episode; the message names it."""


def again(seed: int, number: int) -> int:
    """The seed of an episode that is played for the n-th time, from 0."""
    return (seed + 7919 * number) % 2**31


class GuardedEnv:
    """A host environment behind checks, in the shape of one; ``reset_host`` and ``step_host`` raise `EnvFault`."""

    def __init__(self, make: Callable[[], HostEnvironment], seconds: float):
        self._make, self._seconds = make, seconds
        self._env = make()
        self.spec = self._env.spec
        self._t = 0

    def restart(self) -> None:
        """Make the environment anew. Raises `UserError` where that fails."""
        with contextlib.suppress(Exception, SystemExit, _TimeUp), time_limit(self._seconds):
            getattr(self._env, "close", lambda: None)()
        try:
            with time_limit(self._seconds):
                self._env = self._make()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"{self.spec.name} could not be made anew: {_told(error)}.") from error

    def reset_host(self, seed: int) -> Observation:
        self._t = 0
        return self._checked("reset", lambda: (self._env.reset_host(seed),))[0]

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        self._t += 1
        return self._checked(f"step {self._t}", lambda: self._env.step_host(action), results=1)

    @property
    def episode_measures(self) -> dict[str, float]:
        """The measures of the episode that is over. Raises `EnvFault` for what are none."""
        try:
            return measures_of(self._env)
        except UserError as error:
            raise EnvFault(str(error).removesuffix(".")) from error

    def _checked(self, call: str, function: Callable[[], Any], results: int = 0) -> Any:
        """What a call returns in time: an observation, and so many results of a step."""
        try:
            with time_limit(self._seconds), same_directory():
                returned = function()
        except KeyboardInterrupt:
            raise
        except _TimeUp:
            raise EnvFault(f"{call} took more than {self._seconds:g} s (--env-seconds)") from None
        except BaseException as error:
            raise EnvFault(f"{call} raised {_told(error)}") from error
        try:
            observation, *rest = unpacked(call, returned, 1 + results)
            check_observation(self.spec, call, observation, strict=False)
            check_legal(call, observation)
            for result in rest:
                check_result(call, result, strict=False)
        except UserError as error:
            raise EnvFault(str(error).removesuffix(".")) from error
        return returned


class _TimeUp(BaseException):
    """Raised in the main thread when a call has taken too long; no environment's ``except Exception`` catches it."""

    def __str__(self) -> str:
        return "it took too long (--env-seconds)"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TimeUp` in what takes longer. Only the main thread has a limit, where the system has such alarms."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
