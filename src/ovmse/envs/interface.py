"""What environments with the interface of SMAC's ``MultiAgentEnv`` return, in the many ways in which they do."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError


class Look(NamedTuple):
    """What a team sees at one row: an observation per agent, the state (None where there is none), and which actions
    each agent may take (None where nothing is said)."""

    rows: list[np.ndarray]
    state: np.ndarray | None
    legal: list[np.ndarray] | None


def look(env: Any, n_actions: int | None = None) -> Look:
    """Ask an environment what its team sees; arrays are copies. n_actions: of each agent, where that is known."""
    state = asked(env, "get_state")
    state = None if state is None else np.array(state, np.float32).ravel()
    return Look(_rows(env.get_obs(), np.float32) or [], state, _legal(env, n_actions))


def asked(env: Any, name: str, *about: Any) -> Any:
    """What a method returns; None where there is none, or it is not implemented. What goes wrong inside is raised."""
    try:
        method = getattr(env, name, None)
        return None if method is None else method(*about)
    except NotImplementedError:
        return None
    except AttributeError as error:
        if error.name == name:  # of what it wraps
            return None
        raise


def actions_of(action: np.ndarray) -> list[int]:
    """A joint action as a list of Python's own numbers: some environments take no others."""
    return [int(a) for a in action]


def parts(where: str, returned: Any) -> tuple[np.ndarray, bool, bool, Mapping[str, Any]]:
    """Of what a step returned: the rewards, whether the episode is over, whether a time limit cut it, and the info.

    SMAC returns (reward, terminated, info), newer kin (observations, reward, terminated, truncated, info). Rewards and
    ends may stand per agent: all must be at an end, and it was cut where that is the task's own for not all of them.
    Raises `UserError` for anything else.
    """
    if not isinstance(returned, tuple | list) or len(returned) not in (3, 5):
        got = f"{len(returned)} values" if isinstance(returned, tuple | list) else type(returned).__name__
        raise UserError(f"{where}: expected (reward, terminated, info); got {got}.")
    reward, terminated, truncated, info = (*returned[:2], False, returned[2]) if len(returned) == 3 else returned[1:]
    if isinstance(info, list | tuple):  # one per agent
        info = {key: value for each in info for key, value in each.items()}
    info = info or {}
    ended, late = (np.asarray(_values(flags), bool) for flags in (terminated, truncated))
    over = bool(ended.all())
    cut = not over and bool((ended | late).all()) or info.get("episode_limit") in (True, 1)
    return np.asarray(_values(reward), float).reshape(-1), over, cut, info


def actions_told(env: Any) -> int | None:
    """How many actions an environment tells that each agent has; None where it does not."""
    told = _told(dict(asked(env, "get_env_info") or {}), "n_actions", env, "get_total_actions")
    return None if told is None else int(told)


def sizes(name: str, env: Any, first: Look | None) -> dict[str, Any]:
    """``n_agents``, ``n_actions``, ``obs_size``, ``state_size`` and ``episode_limit`` (None where it is not told).

    first: what was seen after a reset; where it is None, only what the environment tells counts. Raises `UserError`
    where a size can't be told.
    """
    told = dict(asked(env, "get_env_info") or {})
    found = {
        "n_agents": told.get("n_agents", getattr(env, "n_agents", None)),
        "n_actions": _told(told, "n_actions", env, "get_total_actions"),
        "obs_size": _told(told, "obs_shape", env, "get_obs_size"),
        "state_size": _told(told, "state_shape", env, "get_state_size"),
        "episode_limit": told.get("episode_limit", getattr(env, "episode_limit", None)),
    }
    if first is not None:
        found["n_agents"] = len(first.rows)
        found["obs_size"] = max(row.size for row in first.rows)
        found["state_size"] = found["n_agents"] * found["obs_size"] if first.state is None else first.state.size
        found["n_actions"] = max([found["n_actions"] or 0, *map(len, first.legal or ())]) or None
    for size, value in found.items():
        if value is None and size != "episode_limit":
            raise UserError(f"{name} does not tell its {size}: get_env_info() should.")
    return {size: None if value is None else int(np.prod(value)) for size, value in found.items()}


def count_of(env: Any, name: str) -> int | None:
    """A count that an environment keeps, such as SMAC's ``timeouts``; None where there is none."""
    count = getattr(env, name, None)
    return count if isinstance(count, int) else None


def takes(function: Callable[..., Any] | None, name: str | None = None) -> bool:
    """Whether a function takes an argument of this name; without a name, any argument by its place."""
    try:
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
    except ValueError:  # some built-in callables have no signature
        return False
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.name == name if name else p.kind in by_place for p in parameters)


def by_name(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build` with every argument taken by its name, those included that it takes by their places alone."""
    try:
        signature = inspect.signature(build)
    except ValueError:
        return build
    parameters = signature.parameters.values()
    places = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]

    def made(**settings: Any) -> Any:
        by_place = [settings.pop(place) for place in places if place in settings]
        return build(*by_place, **settings)

    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [p.replace(kind=either) if p.kind is p.POSITIONAL_ONLY else p for p in parameters]
    made.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    return made


def _told(told: Mapping[str, Any], key: str, env: Any, method: str) -> Any:
    return told[key] if key in told else asked(env, method)


def _legal(env: Any, n_actions: int | None) -> list[np.ndarray] | None:
    """Which actions are legal, by masks, or by lists of their numbers, as Pogema has them.

    A row with a number above 1 is a list, and so are the others beside it. What could be either (ascending 0 and 1) is
    a mask where another row can only be one, or where it has a place for each of the `n_actions`.
    """
    given = asked(env, "get_avail_actions")
    if given is None and (n_agents := getattr(env, "n_agents", None)) is not None:
        each = [asked(env, "get_avail_agent_actions", i) for i in range(n_agents)]
        given = None if any(row is None for row in each) else each
    if given is None:
        return None
    rows = [np.array(row).ravel() for row in _values(given)]
    whole = all(row.dtype.kind in "iu" or not row.size for row in rows)
    lists = whole and any(row.max(initial=0) > 1 for row in rows)
    if whole and not lists and n_actions is not None and all((np.diff(row) > 0).all() for row in rows):
        lists = any(len(row) < n_actions for row in rows)
    if not lists:
        return [row.astype(bool) for row in rows]
    size = max([n_actions or 0, *(1 + int(row.max(initial=0)) for row in rows)])
    return [np.isin(np.arange(size), row) for row in rows]


def _rows(values: Any, dtype: type) -> list[np.ndarray] | None:
    """One flat array per agent, of a list, a tuple, an array, or a dictionary by agent."""
    return None if values is None else [np.array(row, dtype).ravel() for row in _values(values)]


def _values(values: Any) -> Any:
    return list(values.values()) if isinstance(values, Mapping) else values if _many(values) else [values]


def _many(values: Any) -> bool:
    return hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0
