"""Record play as it happens: a wrapper around an environment, so that a user's own loop writes a dataset."""

import os
from typing import Any

import jax
import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.data.schema import Metadata
from ovmse.data.writer import UNLIMITED, DatasetWriter
from ovmse.envs.pettingzoo import ParallelTeam
from ovmse.envs.protocol import HostEnvironment
from ovmse.system import provenance


def record(env: Any, path: str | os.PathLike[str], **settings: Any) -> "RecordedHost | RecordedParallel":
    """Wrap an environment so that everything played in it becomes a dataset at `path`::

        env = ovmse.record(env, "my-logs", behaviour="the rules in use until now")
        ...  # your own loop
        env.close()  # writes the dataset

    env: a PettingZoo parallel environment or a host environment (``reset_host``, ``step_host``, as of
    `ovmse.envs.make`); the wrapper behaves as it does. An episode that is left before its end, by a reset or by
    closing, counts as cut by a time limit. After a crash all completed episodes are kept: go on with ``resume=True``.
    settings: behaviour, quality, seed (for the metadata), resume; of a parallel environment also name, version,
    settings, episode_limit, reward and win_key as of `ovmse.envs.pettingzoo.ParallelTeam`, which is made anew from
    `env` and so resets it once and steps it once.

    Raises `UserError` for other environments and as `DatasetWriter` does: at the end of an episode that cannot be used.
    """
    if isinstance(env, HostEnvironment):
        return RecordedHost(env, path, **settings)
    if hasattr(env, "possible_agents"):
        return RecordedParallel(env, path, **settings)
    raise UserError(
        f"{type(env).__name__}: cannot be recorded; expected a PettingZoo parallel environment (possible_agents) or a "
        "host environment (reset_host and step_host). For other loops there is ovmse.DatasetWriter."
    )


class _Recorded:
    """The episode under way, and the writer of those that are over; all else is as of the environment itself."""

    def __init__(self, env: Any, path: str | os.PathLike[str], spec: EnvSpec, about: dict[str, Any]) -> None:
        resume = about.pop("resume", False)
        described = {"git_revision": provenance.git_revision(), "command": provenance.command_line()}
        self._env, self._spec = env, spec
        self._writer = DatasetWriter(path, spec=spec, resume=resume, about=described | about)
        self._observations: list[Observation] = []
        self._steps: list[tuple[np.ndarray, StepResult]] = []

    def close(self) -> Metadata:
        """Write the dataset, close the environment, and return the dataset's metadata."""
        getattr(self._env, "close", lambda: None)()
        self._end()
        return self._writer.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def _start(self, observation: Observation) -> None:
        self._end()
        self._observations = [jax.tree.map(np.array, observation)]  # a copy: the environment may reuse its arrays

    def _step(self, action: np.ndarray, observation: Observation, result: StepResult) -> None:
        if not self._observations:
            raise UserError(f"{self._writer.path}: a step outside of an episode. Reset the environment first.")
        self._observations.append(jax.tree.map(np.array, observation))
        self._steps.append((np.array(action), result))
        if result.terminal or result.truncated or len(self._steps) >= self._spec.episode_limit:
            self._end()

    def _end(self) -> None:
        observations, steps, self._observations, self._steps = self._observations, self._steps, [], []
        if not steps:
            return
        obs, state, avail = (np.stack(rows) for rows in zip(*observations, strict=True))
        actions, results = zip(*steps, strict=True)
        self._writer.add_episode(
            obs=obs,
            state=state,
            avail=avail,
            action=np.stack(actions),
            reward=np.array([result.reward for result in results], np.float32),
            terminal=bool(results[-1].terminal),
            won=any(bool(result.won) for result in results) if self._spec.has_win else None,
        )


class RecordedHost(_Recorded):
    """A host environment that is recorded."""

    def __init__(self, env: HostEnvironment, path: str | os.PathLike[str], **about: Any) -> None:
        self.spec = env.spec
        super().__init__(env, path, env.spec, about)

    def reset_host(self, seed: int) -> Observation:
        observation = self._env.reset_host(seed)
        self._start(observation)
        return observation

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        observation, result = self._env.step_host(action)
        self._step(action, observation, result)
        return observation, result


class RecordedParallel(_Recorded):
    """A PettingZoo parallel environment that is recorded. settings: of `ParallelTeam`, and of the dataset."""

    def __init__(self, env: Any, path: str | os.PathLike[str], *, name: str = "", **settings: Any) -> None:
        name = name or str(getattr(env, "metadata", {}).get("name") or type(env).__name__)
        version, limit = settings.pop("version", "unknown"), settings.pop("episode_limit", None)
        rules = {key: settings.pop(key) for key in ("reward", "win_key", "settings") if key in settings}
        limit = UNLIMITED if limit is None else limit
        self._team = ParallelTeam(env, name=name, version=version, episode_limit=limit, **rules)
        super().__init__(env, path, self._team.spec, settings)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        observations, infos = self._env.reset(seed=seed, options=options)
        self._start(self._team.began(observations, infos))
        return observations, infos

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        found = self._env.step(actions)
        self._step(self._team.actions_of(actions), *self._team.stepped(*found))
        return found
