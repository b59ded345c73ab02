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
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.protocol import HostEnvironment


class EnvFault(Exception):
    """What an environment did wrong in an episode; the message names it."""


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
        except (Exception, SystemExit, _TimeUp) as error:
            raise UserError(f"{self.spec.name} could not be made anew: {_told(error)}.") from error

    def reset_host(self, seed: int) -> Observation:
        """Start an episode."""
        self._t = 0
        observation = self._call("reset", lambda: self._env.reset_host(seed))
        return self._checked_observation("reset", observation)

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly."""
        self._t += 1
        call = f"step {self._t}"
        returned = self._call(call, lambda: self._env.step_host(action))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise EnvFault(f"{call} returned {_kind(returned)}, expected a observation and an result")
        observation = self._checked_observation(call, returned[0])
        return observation, self._checked_result(call, returned[1])

    def _call(self, call: str, function: Callable[[], Any]) -> Any:
        try:
            with time_limit(self._seconds):
                return function()
        except _TimeUp:
            raise EnvFault(f"{call} took more than {self._seconds:g} s (--env-seconds)") from None
        except (Exception, SystemExit) as error:
            raise EnvFault(f"{call} raised {_told(error)}") from error

    def _checked_observation(self, call: str, observation: Any) -> Observation:
        if not isinstance(observation, Observation):
            raise EnvFault(f"{call} returned {_kind(observation)}, expected a Observation")
        for name, shape in _shapes(self.spec).items():
            value = _as_array(call, name, getattr(observation, name))
            if value.shape != shape:
                raise EnvFault(f"{call}: {name} has the shape {list(value.shape)}, expected {list(shape)}")
            if name == "avail":
                if value.dtype != bool:
                    raise EnvFault(f"{call}: avail is of type {value.dtype}, expected bool")
                if not value.any(axis=1).all():
                    raise EnvFault(f"{call}: agent {int(np.argmin(value.any(axis=1)))} has no legal action")
            elif not np.isfinite(_single(value)).all():
                raise EnvFault(f"{call}: {name} is not finite")
        return observation

    def _checked_result(self, call: str, result: Any) -> StepResult:
        if not isinstance(result, StepResult):
            raise EnvFault(f"{call} returned {_kind(result)}, expected an StepResult")
        for name, value in result._asdict().items():
            array = _as_array(call, name, value)
            if array.shape != ():
                raise EnvFault(f"{call}: {name} has the shape {list(array.shape)}, expected a single value")
            if not np.isfinite(_single(array)):
                raise EnvFault(f"{call}: {name} is not finite")
        if result.terminal and result.truncated:
            raise EnvFault(f"{call} says both that the task ended and that a time limit cut it")
        return result


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


def _shapes(spec: EnvSpec) -> dict[str, tuple[int, ...]]:
    n = spec.n_agents
    return {"obs": (n, spec.obs_size), "state": (spec.state_size,), "avail": (n, spec.n_actions)}


def _as_array(call: str, name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise EnvFault(f"{call}: {name} is no array ({error})") from error
    if array.dtype.kind not in "fiub":
        raise EnvFault(f"{call}: {name} is of type {array.dtype}, expected numbers")
    return array


def _single(array: np.ndarray) -> np.ndarray:
    """The array as the replay will have it: what is too large there is infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
