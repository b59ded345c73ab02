"""Gymnasium's environments of a whole team, with a space, a reward and an observation per agent, as a team."""

import copy
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, check_known, check_positive, did_you_mean, unknown
from ovmse.envs.contained import quiet
from ovmse.envs.pettingzoo import ParallelTeam
from ovmse.envs.protocol import is_json, require, require_json
from ovmse.system.plugins import import_own, version_of

INSTALL = "pip install 'ovmse[gymnasium]' brings lbforaging and rware."
LIMITS = ("max_episode_steps", "max_steps", "time_limit")
"""What environments call a limit of their own. They end by it as by the task, so it is put off by a step: we cut."""

OWN = ("reward", "reward_scale", "episode_limit", "win_key", "measures", "fresh")
"""The adapter's own settings, see `from_id`."""

MASKS = ("action_mask", "action_masks", "avail_actions")


class TupleAsParallel:
    """A team environment in the shape of PettingZoo's parallel ones; its agents are ``agent_0`` and so on.

    The masks are those of the info (`MASKS`) or of ``get_avail_actions()``, the state ``get_state()`` or the info's
    ``state``, where there are such. What stands once for the whole team counts for every agent; such a reward once.

    make: makes the environment, anew for every episode where `fresh`, since what survives a reset would reach the next
    one. reward: how the team's is made of the agents', which matters where there is only one. scale: of rewards.

    Raises `UserError` for spaces that do not tell the agents apart.
    """

    def __init__(self, name: str, make: Callable[[], Any], reward: str, fresh: bool, scale: float = 1.0) -> None:
        self._make, self._reward, self._fresh, self._used, self._scale = make, reward, fresh, False, scale
        env = self._env = make()
        actions, seen = _per_agent(name, env.action_space), _per_agent(name, env.observation_space)
        require(len(actions) == len(seen), f"{name}: {len(actions)} action spaces, but {len(seen)} of observations.")
        self.possible_agents = [f"agent_{i}" for i in range(len(actions))]
        self.agents = self.possible_agents
        self._actions, self._seen = (dict(zip(self.agents, spaces, strict=True)) for spaces in (actions, seen))
        self._info: Mapping[str, Any] = {}

    def action_space(self, agent: str) -> Any:
        """The agent's actions."""
        return self._actions[agent]

    def observation_space(self, agent: str) -> Any:
        """The space of the agent's observation."""
        return self._seen[agent]

    def reset(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the episode that `seed` gives."""
        if self._fresh and self._used:
            self._env.close()
            self._env = self._make()
        self._used = True
        observations, info = self._env.reset(seed=seed)
        return self._each(observations), self._infos(info)

    def step(self, moves: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
        """Act jointly, with a list of Python's own numbers."""
        observations, reward, terminated, truncated, info = self._env.step([moves[a] for a in self.agents])
        if np.ndim(reward) == 0 and self._reward == "sum":
            reward = [reward, *[0.0] * (len(self.agents) - 1)]
        reward = np.asarray(reward, float) * self._scale
        return *(self._each(x) for x in (observations, reward, terminated, truncated)), self._infos(info)

    def state(self) -> np.ndarray:
        """The state; raises `NotImplementedError` where the environment has none."""
        if hasattr(self._env.unwrapped, "get_state"):
            return np.asarray(self._env.unwrapped.get_state())
        if "state" in self._info:
            return np.asarray(self._info["state"])
        raise NotImplementedError

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _each(self, values: Any) -> dict[str, Any]:
        many = isinstance(values, Sequence) or np.ndim(values) > 0
        return dict(zip(self.agents, values if many else [values] * len(self.agents), strict=True))

    def _infos(self, info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        self._info = info
        masks = next((info[key] for key in MASKS if key in info), None)
        if masks is None and hasattr(self._env.unwrapped, "get_avail_actions"):
            masks = self._env.unwrapped.get_avail_actions()
        shared = {key: value for key, value in info.items() if key not in MASKS}
        if masks is None:
            return dict.fromkeys(self.agents, shared)
        counts = (int(self._actions[agent].n) for agent in self.agents)
        return {
            agent: shared | {"action_mask": np.asarray(mask)[:count]}
            for agent, mask, count in zip(self.agents, masks, counts, strict=True)
        }


def from_id(
    target: str,
    *,
    reward: str = "sum",
    reward_scale: float = 1.0,
    episode_limit: int | None = None,
    win_key: str | None = None,
    measures: str | Sequence[str] | None = None,
    fresh: bool = True,
    **settings: Any,
) -> ParallelTeam:
    """What ``MODULE:ID`` registers, as a team, such as ``lbforaging:Foraging-8x8-2p-3f-v3``.

    `episode_limit` (steps) is the registered one, or the environment's own (`LIMITS`), where it is not given. fresh:
    whether it is made anew for every episode.

    Raises `UserError` for modules, ids and settings that are not there, and where there is no limit.
    """
    name = f"gymnasium:{target}"
    check_known("reward", reward, ("sum", "mean"))
    check_positive("reward_scale", reward_scale)
    gymnasium = _gymnasium(name)
    spec = copy.deepcopy(_registered(gymnasium, name, *target.partition(":")[::2]))
    require_json(name, settings)
    known = _settings_of(gymnasium, spec)
    for key in settings:
        if known is not None and key not in known:
            raise unknown(f"setting of {name}", key, [*known, *OWN])
    resolved = {**(known or {}), **spec.kwargs, **settings}
    own_limit = next((key for key in LIMITS if isinstance(resolved.get(key), int)), None)
    limits = [x for x in (spec.max_episode_steps, resolved[own_limit] if own_limit else None) if x is not None]
    if episode_limit is None and not limits:
        raise UserError(f"{name} has no time limit, so it needs the setting episode_limit, in steps.")
    limit = episode_limit or min(limits)
    spec.max_episode_steps = None
    spec.kwargs = {**spec.kwargs, **settings, **({own_limit: limit + 1} if own_limit else {})}

    def make() -> Any:
        with quiet():
            return gymnasium.make(copy.deepcopy(spec), disable_env_checker=True)

    written = json.loads(json.dumps({key: value for key, value in resolved.items() if is_json(value)}))
    return ParallelTeam(
        TupleAsParallel(name, make, reward, fresh, reward_scale),
        name=name,
        version=version_of(getattr(spec.entry_point, "__module__", spec.entry_point)),
        settings=written | {"fresh": fresh, "reward_scale": reward_scale},
        reward=reward,
        episode_limit=limit,
        win_key=win_key,
        measures=measures,
    )


def _gymnasium(name: str) -> Any:
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise UserError(f"{name} needs the package 'gymnasium': {INSTALL}") from error


def _registered(gymnasium: Any, name: str, module: str, identifier: str) -> Any:
    """The registered specification, after importing the module that registers it."""
    require(bool(identifier), f"{name}: expected gymnasium:MODULE:ID, such as gymnasium:rware:rware-tiny-2ag-v2.")
    with quiet():
        try:
            import_own("environment", name, module)
        except UserError as error:
            missing = getattr(error.__cause__, "name", None)
            if missing != module:
                raise
            raise UserError(
                f"{name}: there is no module {module!r}; is it installed, and spelt so? {INSTALL}"
            ) from error
    found = gymnasium.registry.get(identifier)
    if found is None:
        raise UserError(f"{name}: nothing registers {identifier!r}.{did_you_mean(identifier, gymnasium.registry)}")
    return found


def _settings_of(gymnasium: Any, spec: Any) -> dict[str, Any] | None:
    """The environment's own settings and their defaults (None for those that have none); None where it takes any."""
    entry = spec.entry_point
    build = entry if callable(entry) else gymnasium.envs.registration.load_env_creator(entry)
    parameters = inspect.signature(build).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def _per_agent(name: str, space: Any) -> list[Any]:
    """The spaces of the agents, of a tuple of spaces, or of one with an agent in each row."""
    from gymnasium import spaces  # an optional package

    if isinstance(space, spaces.Tuple):
        return list(space.spaces)
    if isinstance(space, spaces.MultiDiscrete):
        return [spaces.Discrete(int(n)) for n in space.nvec.ravel()]
    if isinstance(space, spaces.Box) and len(space.shape) > 1:
        return [spaces.Box(low, high) for low, high in zip(space.low, space.high, strict=True)]
    raise UserError(f"{name}: {space} has no space per agent; a team's spaces are a Tuple. Is it for one agent?")
