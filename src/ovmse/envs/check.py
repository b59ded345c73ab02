"""One call that tells whether an environment keeps to the protocol, and what exactly it breaks."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

from ovmse.core.errors import UserError, check_positive, raised
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.protocol import (
    Environment,
    check_legal,
    check_observation,
    check_result,
    is_host,
    is_json,
    require,
    unpacked,
)

VMAP_ROWS = 4  # steps of the first episode that are repeated under vmap


class Player(NamedTuple):
    """How an environment is played; `suffix` is that of its methods' names.

    reset: (seed) → state, observation. step: (seed, t, state, action) → state, observation, result. On the host the
    state is None.
    """

    spec: EnvSpec
    suffix: str
    reset: Callable[..., tuple[Any, ...]]
    step: Callable[..., tuple[Any, ...]]


class Played(NamedTuple):
    """One played episode of T steps: T+1 states (None on the host) and observations, T actions and results."""

    seed: int
    states: list[Any]
    observations: list[Observation]
    actions: list[np.ndarray]
    results: list[StepResult]


def check(env: Any, episodes: int = 3, seed: int = 0) -> None:
    """Play `episodes` random episodes of `env` and return if it keeps to the protocol.

    Checked: the spec; shapes, dtypes and finiteness of every observation and result (of a host environment's result
    Python's own numbers will do); a legal action for every agent; an end within ``episode_limit``, terminal or
    truncated but not both; equal seeds give equal episodes, unless the environment says ``repeatable = False``; no
    automatic reset, as far as it shows. For JAX environments also: `jax.jit` can trace reset and step, both give the
    same pytree types (else the training loop compiles twice), and `jax.vmap` gives what single calls give.

    Raises `UserError` naming the method, field, agent, step and seed of the first breach.
    """
    check_positive("episodes", float(episodes))
    try:
        _check_spec(env)
        player = _host(env) if is_host(env) else _compiled(env)
        played = [_play(player, seed + i) for i in range(episodes)]
        if getattr(env, "repeatable", True):
            _check_equal_episodes(played[0], _play(player, seed, played[0].actions))
        _check_no_reset(played)
        if not is_host(env):
            _check_vmap(env, played[0])
    except UserError as error:
        name = getattr(getattr(env, "spec", None), "name", type(env).__name__)
        raise UserError(f"check of {name}: {error}") from error.__cause__


def _check_spec(env: Any) -> None:
    spec: Any = getattr(env, "spec", None)
    what = f"{type(env).__name__}.spec"
    require(isinstance(spec, EnvSpec), f"{what} must be an ovmse.core.types.EnvSpec; got {spec!r}.")
    for field in ("name", "version"):
        value = getattr(spec, field)
        require(isinstance(value, str) and value, f"spec.{field} must be a non-empty string; got {value!r}.")
    for field in ("n_agents", "n_actions", "obs_size", "state_size", "episode_limit"):
        value = getattr(spec, field)
        require(type(value) is int and value >= 1, f"spec.{field} must be an int of at least 1; got {value!r}.")
    require(isinstance(spec.has_win, bool), f"spec.has_win must be True or False; got {spec.has_win!r}.")
    for field in ("agents", "kinds"):
        value, n = getattr(spec, field), spec.n_agents
        require(
            isinstance(value, tuple) and len(value) in (0, n), f"spec.{field} must be a tuple of {n}; got {value!r}."
        )
    require(isinstance(spec.settings, dict), f"spec.settings must be a dictionary; got {spec.settings!r}.")
    same = is_json(spec.settings) and json.loads(json.dumps(spec.settings)) == spec.settings
    require(same, f"spec.settings must hold JSON values only; got {spec.settings!r}.")


def _host(env: Any) -> Player:
    def reset(seed: int) -> tuple[Any, ...]:
        return None, _called(f"seed {seed}: reset_host", env.reset_host, seed)

    def step(seed: int, t: int, state: None, action: np.ndarray) -> tuple[Any, ...]:
        returned = _called(f"seed {seed}: step_host at step {t}", env.step_host, action.copy())
        return None, *unpacked("step_host", returned, 2)

    return Player(env.spec, "_host", reset, step)


def _called(where: str, function: Callable[..., Any], argument: Any) -> Any:
    try:
        return function(argument)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise raised(where, error) from error


def _compiled(env: Environment) -> Player:
    """`reset` and `step` compiled, after checking that they can be."""
    key, joint = jax.random.key(0), jnp.zeros(env.spec.n_agents, jnp.int32)
    state, observation = unpacked("reset", _traced("reset", env.reset, key), 2)
    later, next_observation, _ = unpacked("step", _traced("step", env.step, key, state, joint), 3)
    _check_types("state", state, later)
    _check_types("Observation", observation, next_observation)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    return Player(
        env.spec,
        "",
        lambda seed: reset(jax.random.key(seed)),
        lambda seed, t, state, action: step(_step_key(seed, t), state, jnp.asarray(action)),
    )


def _step_key(seed: int, t: int) -> Any:
    return jax.random.fold_in(jax.random.key(seed), t)


def _traced(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        hint = "An environment that runs in Python has reset_host and step_host instead."
        raise UserError(f"jax.jit cannot trace {method}: {_reason(error)} {hint}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _check_types(what: str, first: Any, later: Any) -> None:
    """Raise unless the two pytrees of abstract values agree in structure, shapes, dtypes and weak types."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(first)
    later_leaves, later_tree = jax.tree_util.tree_flatten_with_path(later)
    same = str(tree) == str(later_tree)
    require(same, f"{what} has the structure {tree} after reset, but {later_tree} after step.")
    for (path, a), (_, b) in zip(leaves, later_leaves, strict=True):
        require(
            _aval(a) == _aval(b),
            f"{what}{keystr(path)} is {_aval(a)} after reset but {_aval(b)} after step, so the training loop "
            "would compile twice; cast it to one type in both.",
        )


def _aval(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}{' (weakly typed)' if value.weak_type else ''}"


def _play(player: Player, seed: int, actions: Sequence[np.ndarray] = ()) -> Played:
    """Play one episode, checking every row: by these actions, of which the last goes on, or at random."""
    spec, where, rng = player.spec, f"seed {seed}: reset{player.suffix}", np.random.default_rng(seed)
    state, observation = player.reset(seed)
    check_observation(spec, where, observation)
    check_legal(where, observation)
    played, kept = Played(seed, [state], [observation], [], []), [jax.tree.map(np.array, observation)]
    for t in range(spec.episode_limit):
        if actions:
            action = actions[min(t, len(actions) - 1)]
        else:
            action = np.array([rng.choice(np.flatnonzero(row)) for row in np.asarray(observation.avail)], np.int32)
        state, observation, result = player.step(seed, t, state, action)
        where = f"seed {seed}: step{player.suffix} at step {t}"
        check_observation(spec, where, observation)
        check_result(where, result, strict=not player.suffix)
        ended = result.terminal or result.truncated
        require(spec.has_win or not result.won, f"{where}: StepResult.won is true although spec.has_win is False.")
        require(ended or not result.won, f"{where}: StepResult.won is true before the episode's last step.")
        kept.append(jax.tree.map(np.array, observation))
        played.states.append(state)
        played.observations.append(observation)
        played.actions.append(action)
        played.results.append(result)
        if ended:
            break
        check_legal(where, observation)
    else:
        limit = f"spec.episode_limit = {spec.episode_limit} steps"
        raise UserError(f"{where}: the episode goes on after {limit}; set truncated at the limit.")
    for row, (observation, copy) in enumerate(zip(played.observations, kept, strict=True)):
        field = _difference(observation, copy)
        message = f"seed {seed}: Observation.{field} of row {row} was changed by a later step; return fresh arrays."
        require(field is None, message)
    return played._replace(observations=kept)


def _difference(a: Any, b: Any, tolerance: float = 0.0) -> str | None:
    """The first field of two observations or results that differs by more than `tolerance`."""
    for field in a._fields:
        x, y = np.asarray(getattr(a, field)), np.asarray(getattr(b, field))
        if x.shape != y.shape or not np.allclose(x, y, rtol=tolerance, atol=tolerance):
            return field
    return None


def _rows(played: Played) -> Iterator[tuple[str, Any]]:
    """All observations and results in the order in which they came, each with its place."""
    yield "after reset", played.observations[0]
    for t, values in enumerate(zip(played.observations[1:], played.results, strict=True)):
        yield from ((f"at step {t}", value) for value in values)


def _check_equal_episodes(one: Played, two: Played) -> None:
    where = f"two episodes with seed {one.seed} and equal actions differ"
    for (place, a), (_, b) in zip(_rows(one), _rows(two), strict=False):
        field = _difference(a, b)
        what = f"{type(a).__name__}.{field} {place}; draw everything random from the seed or key."
        require(field is None, f"{where}: {what}")


def _check_no_reset(played: list[Played]) -> None:
    """Raise where every last row is a first row again, or a step counter of the state starts anew."""
    advice = "the last row must be what the last action led to; do not reset inside step"
    returned = all(_returns_to_start(p.observations) for p in played)
    require(not returned, f"every episode's last row equals its first row; {advice}.")
    for p in played:
        counters = [_counters(state) for state in p.states]
        for path, first in counters[0].items():
            values = [c[path] for c in counters]
            counted = len(values) > 2 and values[:-1] == list(range(first, first + len(values) - 1))
            message = f"seed {p.seed}: state{path} counts steps and is back at {first} after the last; {advice}."
            require(not counted or values[-1] != first, message)


def _returns_to_start(observations: list[Observation]) -> bool:
    same = [_difference(observation, observations[0]) is None for observation in observations[1:]]
    return len(same) > 1 and same[-1] and not any(same[:-1])


def _counters(state: Any) -> dict[str, int]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    scalars = [(path, leaf) for path, leaf in leaves if leaf.ndim == 0]
    return {keystr(path): int(leaf) for path, leaf in scalars if jnp.issubdtype(leaf.dtype, jnp.integer)}


def _check_vmap(env: Environment, played: Played) -> None:
    """Raise unless the first steps of an episode give under vmap, side by side, what they gave one by one."""
    n = min(VMAP_ROWS, len(played.actions))
    keys = jnp.stack([_step_key(played.seed, t) for t in range(n)])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *played.states[:n])
    try:
        _, *batches = jax.jit(jax.vmap(env.step))(keys, states, jnp.stack(played.actions[:n]))
    except Exception as error:
        raise UserError(f"step fails under jax.vmap: {_reason(error)}") from error
    for t in range(n):
        for batch, single in zip(batches, (played.observations[t + 1], played.results[t]), strict=True):
            field = _difference(jax.tree.map(lambda leaf, t=t: leaf[t], batch), single, tolerance=1e-4)
            where = f"seed {played.seed}: {type(single).__name__}.{field} of step {t}"
            require(field is None, f"{where} differs between jax.vmap and a single call.")
