"""One call that tells whether an environment keeps to the protocol, and what exactly it breaks."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

from ovmse.core.errors import UserError, check_positive
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.protocol import Environment, is_host

COUNTS = ("n_agents", "n_actions", "obs_size", "state_size", "episode_limit")
VMAP_ROWS = 4  # steps of the first episode that are repeated under vmap


class Step(NamedTuple):
    """One played step: the JAX state before it (None on the host), and what came of it."""

    before: Any
    action: np.ndarray
    observation: Observation
    result: StepResult
    after: Any


class Played(NamedTuple):
    """One played episode; `start` and `first` are what reset gave."""

    seed: int
    start: Any
    first: Observation
    steps: list[Step]


def check(env: Any, episodes: int = 3, seed: int = 0) -> None:
    """Play `episodes` random episodes of `env` and return if it keeps to the protocol.

    Checked: the spec; shapes, dtypes and finiteness of every observation and result; a legal action for every
    agent; an end within ``episode_limit``, terminal or truncated but not both; equal seeds give equal
    episodes; no automatic reset, as far as it shows. For JAX environments also: `jax.jit` can trace reset and
    step, both give the same pytree types (else the training loop compiles twice), and `jax.vmap` gives what
    single calls give.

    Raises `UserError` naming the method, field, agent, step and seed of the first breach.
    """
    check_positive("episodes", float(episodes))
    try:
        _check_spec(env)
        _check_episodes(env, episodes, seed)
    except UserError as error:
        name = getattr(getattr(env, "spec", None), "name", type(env).__name__)
        raise UserError(f"check of {name}: {error}") from error.__cause__


def _check_episodes(env: Any, episodes: int, seed: int) -> None:
    actor: _Host | _Compiled = _Host(env) if is_host(env) else _Compiled(env)
    played = [_play(actor, seed + i, _random_policy(seed + i)) for i in range(episodes)]
    again = _play(actor, seed, _replay_policy(played[0]))
    _check_equal_episodes(played[0], again)
    _check_no_reset(played)
    if isinstance(actor, _Compiled):
        _check_vmap(actor, played[0])


def _require(ok: Any, message: str) -> None:
    if not ok:
        raise UserError(message)


def _check_spec(env: Any) -> None:
    spec = getattr(env, "spec", None)
    if not isinstance(spec, EnvSpec):
        raise UserError(f"{type(env).__name__}.spec must be an ovmse.core.types.EnvSpec; got {spec!r}.")
    for field in ("name", "version"):
        value = getattr(spec, field)
        _require(isinstance(value, str) and value, f"spec.{field} must be a non-empty string; got {value!r}.")
    for field in COUNTS:
        value = getattr(spec, field)
        _require(type(value) is int and value >= 1, f"spec.{field} must be an int of at least 1; got {value!r}.")
    _require(isinstance(spec.has_win, bool), f"spec.has_win must be True or False; got {spec.has_win!r}.")
    _require(isinstance(spec.settings, dict), f"spec.settings must be a dictionary; got {spec.settings!r}.")
    try:
        same = json.loads(json.dumps(spec.settings, allow_nan=False)) == spec.settings
    except (TypeError, ValueError):
        same = False
    _require(same, f"spec.settings must hold JSON values only; got {spec.settings!r}.")


class _Host:
    """Plays a host environment."""

    reset_name, step_name = "reset_host", "step_host"

    def __init__(self, env: Any) -> None:
        self.env = env
        self.spec: EnvSpec = env.spec

    def reset(self, seed: int) -> tuple[None, Any]:
        return None, self.env.reset_host(seed)

    def step(self, seed: int, t: int, state: None, action: np.ndarray) -> tuple[Any, ...]:
        del seed, t, state
        return None, *_unpack("step_host", self.env.step_host(action.copy()), 2)


class _Compiled:
    """Plays a JAX environment with `reset` and `step` compiled, after checking that they can be."""

    reset_name, step_name = "reset", "step"

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.spec = env.spec
        key, action = jax.random.key(0), jnp.zeros(env.spec.n_agents, jnp.int32)
        first = _traced("reset", env.reset, key)
        state, observation = _unpack("reset", first, 2)
        later = _traced("step", env.step, key, state, action)
        next_state, next_view, _ = _unpack("step", later, 3)
        _check_types("state", state, next_state)
        _check_types("Observation", observation, next_view)
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)

    def reset(self, seed: int) -> tuple[Any, Any]:
        return self._reset(jax.random.key(seed))

    def step(self, seed: int, t: int, state: Any, action: np.ndarray) -> tuple[Any, ...]:
        return self._step(self.step_key(seed, t), state, jnp.asarray(action))

    def step_key(self, seed: int, t: int) -> Any:
        return jax.random.fold_in(jax.random.key(seed), t)


def _traced(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        hint = "An environment that runs in Python has reset_host and step_host instead."
        raise UserError(f"jax.jit cannot trace {method}: {_reason(error)} {hint}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _unpack(method: str, result: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(result, tuple) or len(result) != length:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise UserError(f"{method} must return a tuple of {length} values; got {got}.")
    return result


def _check_types(what: str, first: Any, later: Any) -> None:
    """Raise unless the two pytrees of abstract values agree in structure, shapes, dtypes and weak types."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(first)
    later_leaves, later_tree = jax.tree_util.tree_flatten_with_path(later)
    same = str(tree) == str(later_tree)
    _require(same, f"{what} has the structure {tree} after reset, but {later_tree} after step.")
    for (path, a), (_, b) in zip(leaves, later_leaves, strict=True):
        _require(
            _aval(a) == _aval(b),
            f"{what}{keystr(path)} is {_aval(a)} after reset but {_aval(b)} after step, so the training loop "
            "would compile twice; cast it to one type in both.",
        )


def _aval(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}{' (weakly typed)' if value.weak_type else ''}"


def _play(actor: "_Host | _Compiled", seed: int, policy: Callable[[int, Observation], np.ndarray]) -> Played:
    """Play one episode, checking every row; `policy` maps (step, observation) to the joint action."""
    spec = actor.spec
    start, first = actor.reset(seed)
    where = f"seed {seed}: {actor.reset_name}"
    _check_observation(spec, where, first)
    _check_legal(where, first)
    state, observation, steps = start, first, []
    kept = [_copied(first)]
    for t in range(spec.episode_limit):
        action = policy(t, observation)
        after, observation, result = actor.step(seed, t, state, action)
        where = f"seed {seed}: {actor.step_name} at step {t}"
        _check_observation(spec, where, observation)
        _check_result(spec, where, result)
        kept.append(_copied(observation))
        steps.append(Step(state, action, observation, result, after))
        state = after
        if result.terminal or result.truncated:
            break
        _check_legal(where, observation)
    else:
        limit = f"spec.episode_limit = {spec.episode_limit} steps"
        raise UserError(f"{where}: the episode goes on after {limit}; set truncated at the limit.")
    for row, (observation, copy) in enumerate(zip([first, *(s.observation for s in steps)], kept, strict=True)):
        field = _difference(observation, copy)
        message = f"seed {seed}: Observation.{field} of row {row} was changed by a later step; return fresh arrays."
        _require(field is None, message)
    return Played(seed, start, kept[0], [s._replace(observation=v) for s, v in zip(steps, kept[1:], strict=True)])


def _check_observation(spec: EnvSpec, where: str, observation: Any) -> None:
    _require(
        isinstance(observation, Observation),
        f"{where}: expected an ovmse.core.types.Observation; got {type(observation).__name__}.",
    )
    _check_array(where, "Observation.obs", observation.obs, (spec.n_agents, spec.obs_size), np.float32)
    _check_array(where, "Observation.state", observation.state, (spec.state_size,), np.float32)
    _check_array(where, "Observation.avail", observation.avail, (spec.n_agents, spec.n_actions), np.bool_)
    obs, state = np.asarray(observation.obs), np.asarray(observation.state)
    for agent, feature in np.argwhere(~np.isfinite(obs)):
        raise UserError(f"{where}: Observation.obs of agent {agent}, feature {feature}, is {obs[agent, feature]}.")
    for (feature,) in np.argwhere(~np.isfinite(state)):
        raise UserError(f"{where}: Observation.state, feature {feature}, is {state[feature]}.")


def _check_legal(where: str, observation: Observation) -> None:
    for agent in np.flatnonzero(~np.asarray(observation.avail).any(axis=1)):
        raise UserError(f"{where}: Observation.avail leaves agent {agent} no legal action, and the episode goes on.")


def _check_result(spec: EnvSpec, where: str, result: Any) -> None:
    _require(isinstance(result, StepResult), f"{where}: expected an StepResult; got {type(result).__name__}.")
    _check_array(where, "StepResult.reward", result.reward, (), np.float32)
    for field in ("terminal", "truncated", "won"):
        _check_array(where, f"StepResult.{field}", getattr(result, field), (), np.bool_)
    _require(np.isfinite(result.reward), f"{where}: StepResult.reward is {result.reward}.")
    both = result.terminal and result.truncated
    _require(not both, f"{where}: terminal and truncated are both true; a time limit is not terminal.")
    _require(spec.has_win or not result.won, f"{where}: StepResult.won is true although spec.has_win is False.")
    ended = result.terminal or result.truncated
    _require(ended or not result.won, f"{where}: StepResult.won is true before the episode's last step.")


def _check_array(where: str, field: str, value: Any, shape: tuple[int, ...], dtype: type) -> None:
    is_array = isinstance(value, np.ndarray | np.generic | jax.Array)
    _require(is_array, f"{where}: {field} must be an array; got {type(value).__name__}.")
    _require(value.shape == shape, f"{where}: {field} must have shape {shape}, by the spec; got {value.shape}.")
    expected = np.dtype(dtype)
    _require(value.dtype == expected, f"{where}: {field} must have dtype {expected}; got {value.dtype}.")


def _copied(observation: Observation) -> Observation:
    return jax.tree.map(np.array, observation)


def _random_policy(seed: int) -> Callable[[int, Observation], np.ndarray]:
    rng = np.random.default_rng(seed)

    def act(t: int, observation: Observation) -> np.ndarray:
        return np.array([rng.choice(np.flatnonzero(row)) for row in np.asarray(observation.avail)], np.int32)

    return act


def _replay_policy(played: Played) -> Callable[[int, Observation], np.ndarray]:
    return lambda t, observation: played.steps[min(t, len(played.steps) - 1)].action


def _difference(a: Any, b: Any, tolerance: float = 0.0) -> str | None:
    """The first field of two observations or results that differs by more than `tolerance`."""
    for field in a._fields:
        x, y = np.asarray(getattr(a, field)), np.asarray(getattr(b, field))
        if x.shape != y.shape or not np.allclose(x, y, rtol=tolerance, atol=tolerance):
            return field
    return None


def _check_equal_episodes(one: Played, two: Played) -> None:
    where = f"two episodes with seed {one.seed} and equal actions differ"
    advice = "draw everything random from the seed or key"
    field = _difference(one.first, two.first)
    _require(field is None, f"{where}: Observation.{field} after reset; {advice}.")
    for t, (a, b) in enumerate(zip(one.steps, two.steps, strict=False)):
        for kind, left, right in (("Observation", a.observation, b.observation), ("StepResult", a.result, b.result)):
            field = _difference(left, right)
            _require(field is None, f"{where}: {kind}.{field} at step {t}; {advice}.")


def _check_no_reset(played: list[Played]) -> None:
    """Raise where every last row is a first row again, or a step counter of the state starts anew."""
    advice = "the last row must be what the last action led to; do not reset inside step"
    returned = all(_returns_to_start(p) for p in played)
    _require(not returned, f"every episode's last row equals its first row; {advice}.")
    for p in played:
        counters = [_counters(state) for state in (p.start, *(s.after for s in p.steps))]
        for path, first in counters[0].items():
            values = [c[path] for c in counters]
            counted = len(values) > 2 and all(v == first + t for t, v in enumerate(values[:-1]))
            message = f"seed {p.seed}: state{path} counts steps and is back at {first} after the last; {advice}."
            _require(not counted or values[-1] != first, message)


def _returns_to_start(played: Played) -> bool:
    same = [_difference(step.observation, played.first) is None for step in played.steps]
    return len(same) > 1 and same[-1] and not any(same[:-1])


def _counters(state: Any) -> dict[str, int]:
    """The scalar integers of a JAX state, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    scalars = [(path, leaf) for path, leaf in leaves if leaf.ndim == 0]
    return {keystr(path): int(leaf) for path, leaf in scalars if jnp.issubdtype(leaf.dtype, jnp.integer)}


def _check_vmap(actor: _Compiled, played: Played) -> None:
    """Raise unless the first steps of an episode give under vmap, side by side, what they gave one by one."""
    steps = played.steps[:VMAP_ROWS]
    keys = jnp.stack([actor.step_key(played.seed, t) for t in range(len(steps))])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[s.before for s in steps])
    actions = jnp.stack([jnp.asarray(s.action) for s in steps])
    try:
        _, observations, results = jax.jit(jax.vmap(actor.env.step))(keys, states, actions)
    except Exception as error:
        raise UserError(f"step fails under jax.vmap: {_reason(error)}") from error
    for t, step in enumerate(steps):
        for kind, batch, single in (
            ("Observation", observations, step.observation),
            ("StepResult", results, step.result),
        ):
            got = jax.tree.map(lambda leaf, t=t: leaf[t], batch)
            field = _difference(got, single, tolerance=1e-4)
            where = f"seed {played.seed}: {kind}.{field} of step {t}"
            _require(field is None, f"{where} differs between jax.vmap and a single call.")
