"""The two shapes of environment, one that JAX can compile, one that runs on the host; checks of what they return."""

from __future__ import annotations  # unevaluated: an environment's own process does without JAX

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, EnvState, Observation, StepResult

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PRNGKeyArray


@runtime_checkable
class Environment(Protocol):
    """A JAX environment: pure functions, so the whole training loop compiles with it.

    There is no automatic reset: after a terminal or truncated step the caller stops using the state.
    """

    spec: EnvSpec

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Observation]:
        """A first state and what the team sees of it."""

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Int[Array, " N"]
    ) -> tuple[EnvState, Observation, StepResult]:
        """The state after the joint action, what the team sees of it, and what the action led to."""


@runtime_checkable
class HostEnvironment(Protocol):
    """An environment that runs in Python, one episode at a time; arrays are NumPy's.

    It may tell measures of its own, such as a waiting time: an attribute ``episode_measures``, a mapping of names to
    numbers, is read after an episode's last step (`ovmse.envs.measures`).
    """

    spec: EnvSpec

    def reset_host(self, seed: int) -> Observation:
        """Start an episode; equal seeds start equal episodes."""

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly with `action` (int, shape (N,))."""


AnyEnvironment = Environment | HostEnvironment


def is_host(env: AnyEnvironment) -> bool:
    """Whether the environment runs on the host, outside the compiled loop."""
    return hasattr(env, "step_host")


def require(ok: Any, message: str) -> None:
    """Raise `UserError` with the message unless `ok`."""
    if not ok:
        raise UserError(message)


def is_json(value: Any) -> bool:
    """Whether JSON can hold the value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def require_json(name: str, settings: Mapping[str, Any]) -> None:
    """Raise `UserError` for a setting of an environment that JSON can't hold."""
    for key, value in settings.items():
        require(
            is_json(value),
            f"setting {key!r} of {name} must be a JSON value, to be written to datasets; got {value!r}.",
        )


def unpacked(call: str, returned: Any, length: int) -> tuple[Any, ...]:
    """The tuple of `length` values that a call must return. Raises `UserError` for anything else."""
    if not isinstance(returned, tuple) or len(returned) != length:
        got = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
        raise UserError(f"{call} must return a tuple of {length} values; got {got}.")
    return returned


def check_observation(spec: EnvSpec, where: str, observation: Any, strict: bool = True) -> None:
    """Raise `UserError` unless an observation has the spec's shapes, and finite numbers.

    strict: only arrays of the protocol's dtypes; else `avail` is bool and the rest may be numbers of any type.
    """
    got = type(observation).__name__
    require(isinstance(observation, Observation), f"{where}: expected an ovmse.core.types.Observation; got {got}.")
    n = spec.n_agents
    _check_array(f"{where}: Observation.obs", observation.obs, (n, spec.obs_size), np.float32, strict)
    _check_array(f"{where}: Observation.state", observation.state, (spec.state_size,), np.float32, strict)
    _check_array(f"{where}: Observation.avail", observation.avail, (n, spec.n_actions), np.bool_, strict)


def check_legal(where: str, observation: Observation) -> None:
    """Raise `UserError` where an agent has no legal action."""
    for agent in np.flatnonzero(~np.asarray(observation.avail).any(axis=1)):
        raise UserError(f"{where}: Observation.avail leaves agent {agent} no legal action.")


def check_action(where: str, action: Any, avail: np.ndarray, names: Sequence[str] = ()) -> None:
    """Raise `UserError` where a joint action (N,) is illegal by the masks (N, A); names: the agents'."""
    for i, (choice, legal) in enumerate(zip(np.asarray(action).tolist(), avail, strict=True)):
        if not 0 <= choice < len(legal) or not legal[choice]:
            agent = f"{i} ({names[i]})" if names else str(i)
            known = np.flatnonzero(legal).tolist()
            raise UserError(f"{where}: action {choice} of agent {agent} is illegal; legal: {known}.")


def check_result(where: str, result: Any, strict: bool = True) -> None:
    """Raise `UserError` unless a step's result has single finite values and one end at most; strict: see above."""
    require(isinstance(result, StepResult), f"{where}: expected a StepResult; got {type(result).__name__}.")
    for field, value in result._asdict().items():
        dtype = np.bool_ if strict and field != "reward" else np.float32
        _check_array(f"{where}: StepResult.{field}", value, (), dtype, strict)
    both = result.terminal and result.truncated
    require(not both, f"{where}: terminal and truncated are both true; a time limit is not terminal.")


def _check_array(name: str, value: Any, shape: tuple[int, ...], dtype: type, strict: bool) -> None:
    is_array = not strict or (hasattr(value, "__array__") and hasattr(value, "dtype"))
    require(is_array, f"{name} must be an array; got {type(value).__name__}.")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} is no array ({error}).") from error
    if array.shape != shape:  # the words of an error are made where there is one: this is called at every step
        raise UserError(f"{name} must have shape {shape}, by the spec; got {array.shape}.")
    numbers = not strict and dtype is np.float32 and array.dtype.kind in "fiub"
    if not numbers and array.dtype != dtype:
        raise UserError(f"{name} must have dtype {np.dtype(dtype)}; got {array.dtype}.")
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):  # what is too large for the replay is infinite there
        finite = np.isfinite(array.astype(np.float32, copy=False))
    for index in np.argwhere(~finite) if not finite.all() else ():
        place = (" ", ", feature {}, ", " of agent {}, feature {}, ")[array.ndim].format(*index)
        raise UserError(f"{name}{place}is {array[tuple(index)]}.")
