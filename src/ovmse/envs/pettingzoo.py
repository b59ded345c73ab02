"""PettingZoo's parallel environments as a team: dictionaries in, arrays in a fixed agent order out."""

import contextlib
import importlib
import inspect
import io
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ovmse.core import padding
from ovmse.core.errors import UserError, check_known, check_positive, unknown
from ovmse.core.kinds import kinds_of
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs import measures as own_measures
from ovmse.envs.protocol import check_action, is_json, require_json, unpacked
from ovmse.system.plugins import import_own, version_of

WIN_KEYS = ("won", "battle_won")
INSTALL = "pip install 'ovmse[pettingzoo]'"

_observe: Any = Observation  # the observations and results of a host environment hold NumPy's arrays
_result: Any = StepResult


class ParallelTeam:
    """A parallel environment whose agents, in the order of ``possible_agents``, are one team.

    Observations are flattened; unlike agents are padded and masked as `ovmse.core.padding` has it, and an agent that
    has left is out of play. Masks come from ``infos[agent]["action_mask"]`` or from an observation dictionary with
    ``observation`` and ``action_mask``; without one, every action is legal. The state is ``env.state()`` or, where
    that is not implemented, all observations in a row. After a time limit the last row keeps what the remaining agents
    saw.

    Reward: the sum of all agents' rewards, or that sum over N (``mean``; an agent that has left counts as 0,
    so nobody gains by leaving). Truncated: all agents are done and one of them was cut off, or
    `episode_limit` steps are over; terminal: all are done otherwise. Won: an agent's info says so under
    `win_key` at the last step; without `win_key`, ``won`` or ``battle_won`` is used where the first steps of
    a trial episode show it. Measures: what the last step's infos have under ``episode_measures``, and under the keys
    `measures`; the mean over the agents whose infos have it.

    Raises `UserError` for action spaces that are not discrete, and for illegal actions.
    """

    spec: EnvSpec

    def __init__(
        self,
        env: Any,
        *,
        name: str,
        version: str,
        episode_limit: int,
        reward: str = "mean",
        win_key: str | None = None,
        measures: str | Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_positive("episode_limit", float(episode_limit))
        check_known("reward", reward, ("mean", "sum"))
        if not hasattr(env, "possible_agents"):
            raise UserError(f"{name}: without possible_agents the agents have no fixed order.")
        own = {"reward": reward, "episode_limit": episode_limit, "win_key": win_key}
        self._env = env
        self._agents = list(env.possible_agents)
        spaces = [_spaces_of(name, env, agent) for agent in self._agents]
        self._actions, self._spaces, sizes = zip(*spaces, strict=True)
        self._share = 1 / len(self._agents) if reward == "mean" else 1.0
        self.spec = EnvSpec(
            name=name,
            version=version,
            settings=dict(settings or {}) | own,
            n_agents=len(self._agents),
            n_actions=max(int(space.n) for space in self._actions),
            obs_size=max(sizes),
            state_size=0,
            episode_limit=episode_limit,
            has_win=win_key is not None,
            agents=tuple(map(str, self._agents)),
            kinds=kinds_of((size, int(space.n)) for size, space in zip(sizes, self._actions, strict=True)),
        )
        self._win_keys = WIN_KEYS if win_key is None else (win_key,)
        self._measures = own_measures.names_of(measures)
        self._has_state = True
        self._probe()

    def reset_host(self, seed: int) -> Observation:
        """Start the episode that `seed` gives."""
        return self.began(*unpacked(f"{self.spec.name}: reset", self._env.reset(seed=seed), 2))

    def began(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> Observation:
        """What the team sees at an episode's start, of what the environment's ``reset`` returned."""
        self._t = 0
        self._terminated, self._truncated = np.zeros((2, len(self._agents)), bool)
        return self._seen(observations, infos, gone=self._terminated)

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly; `action` has shape (N,), and agents that have left must take action 0."""
        return self.stepped(*unpacked(f"{self.spec.name}: step", self._env.step(self._moves(action)), 5))

    def stepped(
        self,
        observations: Mapping[str, Any],
        rewards: Mapping[str, Any],
        terminations: Mapping[str, Any],
        truncations: Mapping[str, Any],
        infos: Mapping[str, Any],
    ) -> tuple[Observation, StepResult]:
        """What the team sees after a step and what the step led to, of what the environment's ``step`` returned."""
        self._t += 1
        self._terminated |= [bool(terminations.get(a, False)) for a in self._agents]
        self._truncated |= [bool(truncations.get(a, False)) for a in self._agents]
        gone = self._terminated | self._truncated
        over = not self._env.agents or bool(gone.all())
        if not self._env.agents and not gone.all():
            lost = ", ".join(a for a, x in zip(self._agents, gone, strict=True) if not x)
            raise UserError(
                f"{self.spec.name}, step {self._t}: no agent is left, but {lost} neither terminated nor was truncated."
            )
        late = self._t >= self.spec.episode_limit
        cut = bool(np.any(self._truncated & ~self._terminated)) if over else late
        ended = over or cut
        self.episode_measures = own_measures.told(infos.values(), self._measures) if ended else {}
        told = any(bool(infos.get(a, {}).get(key, False)) for a in self._agents for key in self._win_keys)
        result = _result(
            reward=np.float32(sum(float(r) for r in rewards.values()) * self._share),
            terminal=np.bool_(over and not cut),
            truncated=np.bool_(cut),
            won=np.bool_(self.spec.has_win and ended and told),
        )
        return self._seen(observations, infos, self._terminated if ended else gone), result

    def _probe(self) -> None:
        """Reset and step once, to learn the state's size and whether the infos tell of wins."""
        observation = self.reset_host(0)
        self.spec = self.spec._replace(state_size=observation.state.size)
        first_legal = np.argmax(observation.avail, axis=1)
        infos = self._env.step(self._moves(first_legal))[4]
        shown = any(key in infos.get(agent, {}) for agent in self._agents for key in self._win_keys)
        self.spec = self.spec._replace(has_win=self.spec.has_win or shown)

    def _moves(self, action: np.ndarray) -> dict[str, int]:
        check_action(f"{self.spec.name}, step {self._t}", action, self._avail, self._agents)
        moves = {a: int(x + s.start) for a, x, s in zip(self._agents, action, self._actions, strict=True)}
        return {agent: moves[agent] for agent in self._env.agents}

    def actions_of(self, moves: Mapping[str, Any]) -> np.ndarray:
        """The actions (int, shape (N,)) of what was handed to the environment's ``step``; 0 for agents that left."""
        spaces = zip(self._agents, self._actions, strict=True)
        return np.array([int(moves.get(agent, space.start)) - int(space.start) for agent, space in spaces])

    def _seen(self, observations: Mapping[str, Any], infos: Mapping[str, Any], gone: np.ndarray) -> Observation:
        from gymnasium.spaces import flatten  # an optional package

        features, masks = [np.zeros(0, np.float32)] * self.spec.n_agents, [np.zeros(0, bool)] * self.spec.n_agents
        absent = gone | [agent not in observations for agent in self._agents]
        for i in np.flatnonzero(~absent).tolist():
            seen, mask = observations[self._agents[i]], infos.get(self._agents[i], {}).get("action_mask")
            if isinstance(seen, Mapping) and "action_mask" in seen:
                seen, mask = seen["observation"], seen["action_mask"] if mask is None else mask
            features[i] = np.asarray(flatten(self._spaces[i], seen), np.float32)
            count = self._actions[i].n
            masks[i] = np.ones(count, bool) if mask is None else np.asarray(mask, bool).reshape(count)
        obs, self._avail = padding.out_of_play(
            padding.padded(features, self.spec.obs_size), padding.padded(masks, self.spec.n_actions), absent
        )
        return _observe(obs, self._state(obs), self._avail.copy())

    def _state(self, obs: np.ndarray) -> np.ndarray:
        if self._has_state:
            try:
                return np.array(self._env.state(), np.float32).ravel()
            except ValueError:
                if not (self._terminated | self._truncated).any():
                    raise
                return np.zeros(self.spec.state_size, np.float32)  # magent2's fails when all of a kind have left
            except (NotImplementedError, AttributeError):
                if self.spec.state_size:
                    raise  # it had a state before
                self._has_state = False
        return obs.ravel().copy()


def from_module(
    module: str,
    *,
    reward: str = "mean",
    episode_limit: int | None = None,
    win_key: str | None = None,
    measures: str | Sequence[str] | None = None,
    **settings: Any,
) -> ParallelTeam:
    """``module.parallel_env(**settings)`` as a team, such as ``mpe2.simple_spread_v3``.

    `episode_limit` (steps) is the environment's ``max_cycles`` where it has that setting, else required.

    Raises `UserError` for modules that are missing or have no ``parallel_env``, and for unknown settings.
    """
    name = f"pettingzoo:{module}"
    source = _import(name, module)
    known = _settings_of(source)
    own: dict[str, Any] = {"reward": reward, "episode_limit": episode_limit, "win_key": win_key}
    require_json(name, settings)
    for key in settings:
        if known is not None and key not in known:
            raise unknown(f"setting of {name}", key, [*known, *own, "measures"])
    resolved = {**{k: v for k, v in (known or {}).items() if is_json(v)}, **settings}
    limit = resolved.get("max_cycles") if episode_limit is None else episode_limit
    if limit is None:
        raise UserError(f"{name} has no setting max_cycles, so it needs the setting episode_limit, in steps.")
    try:
        env = source.parallel_env(**settings)
    except (TypeError, AssertionError) as error:
        raise UserError(f"{name} could not be made with the settings {settings}: {error}") from error
    own["episode_limit"] = limit
    return ParallelTeam(env, name=name, version=version_of(module), settings=resolved, measures=measures, **own)


def _import(name: str, module: str) -> Any:
    """The module; some of them print a greeting on import."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            source = import_own("environment", name, module)
    except UserError as error:
        missing, parent = getattr(error.__cause__, "name", None), module.rpartition(".")[0]
        if not missing:
            raise
        if missing == module and parent:
            folder = getattr(importlib.import_module(parent), "__path__", [])
            siblings = [f"pettingzoo:{parent}.{m.name}" for m in pkgutil.iter_modules(folder)]
            raise unknown("PettingZoo module", name, siblings) from error
        raise UserError(f"{name} needs the package {missing!r}: {INSTALL} (or install that package).") from error
    if not hasattr(source, "parallel_env"):
        raise UserError(f"{name}: the module has no parallel_env; only PettingZoo's parallel API is supported.")
    return source


def _settings_of(source: Any) -> dict[str, Any] | None:
    """The settings of ``parallel_env`` and their defaults, which ``raw_env`` knows where PettingZoo's wrapper around it
    takes anything; None where the module does not tell."""
    for maker in (source.parallel_env, getattr(source, "raw_env", source.parallel_env)):
        parameters = inspect.signature(maker).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return {p.name: p.default for p in parameters}
    return None


def _spaces_of(name: str, env: Any, agent: str) -> tuple[Any, Any, int]:
    """An agent's action space, the space of its observation without a mask, and the size of that when flattened."""
    from gymnasium import spaces  # an optional package

    actions, seen = env.action_space(agent), env.observation_space(agent)
    if not isinstance(actions, spaces.Discrete):
        raise UserError(
            f"{name}: agent {agent} has the action space {actions}; only Discrete ones are supported "
            "(many environments have a setting such as continuous_actions=False)."
        )
    if isinstance(seen, spaces.Dict) and "action_mask" in seen.spaces:
        seen = seen["observation"]
    try:
        return actions, seen, int(spaces.flatdim(seen))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{name}: agent {agent}'s observation space {seen} has no fixed size.") from error
