"""Environments with the interface of SMAC's ``MultiAgentEnv``, which PyMARL and its kin play, as a team."""

import contextlib
import copy
import io
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, check_known, check_positive
from ovmse.core.padding import NO_OP, padded
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs import measures as own_measures, trial
from ovmse.envs.contained import Generators, quiet
from ovmse.envs.interface import (
    Look,
    actions_of,
    actions_told,
    by_name,
    count_of,
    look,
    parts,
    sizes,
    takes,
)
from ovmse.envs.naming import check_settings, load
from ovmse.envs.protocol import is_json, require, require_json
from ovmse.envs.trial import Crashed, Habits
from ovmse.system.plugins import version_of

WIN_KEYS = ("battle_won", "won")
OWN = {
    "reward": "sum",
    "reward_scale": 1.0,
    "episode_limit": None,
    "win_key": None,
    "measures": None,
    "at_limit": "truncated",
    "fresh": None,
}
"""The adapter's own settings, see `MultiAgentTeam`."""

_observe: Any = Observation  # the observations and results of a host environment hold NumPy's arrays
_result: Any = StepResult
_known_habits: dict[str, Habits] = {}


class MultiAgentTeam:
    """An environment with ``reset``, ``step``, ``get_obs``, ``get_state``, ``get_avail_actions`` and ``get_env_info``.

    What is missing is supplied in the open: the state by all observations in a row, the legal actions by all. An
    observation that is shorter than others is padded with zeros.

    Truncated: the info says so (``episode_limit``), or a higher count of ``timeouts``, or the last step allowed is over
    without a win and without a word on why; `at_limit` = ``terminal`` takes such an end for the task's own. Terminal:
    any other end. Won: the info says so at the last step, under `win_key` or one of `WIN_KEYS`. A step raises `Crashed`
    where the game died, which SMAC tells by ``0, True, {}`` and a higher count of ``force_restarts``.

    repeatable: whether equal seeds give equal episodes (`Habits`).
    """

    spec: EnvSpec

    def __init__(
        self,
        make: Callable[[int], Any],
        *,
        name: str,
        version: str,
        reward: str = "sum",
        reward_scale: float = 1.0,
        episode_limit: int | None = None,
        win_key: str | None = None,
        measures: str | Sequence[str] | None = None,
        at_limit: str = "truncated",
        fresh: bool | None = None,
        habits: Habits | None = None,
        launch: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """An adapter of what `make` makes.

        Args:
            make: A function of a seed that makes the environment.
            name: What `ovmse.envs.make` is given.
            version: The implementation's, and the game's.
            reward: How rewards per agent become the team's, ``sum`` or ``mean``.
            reward_scale: What the team's reward is multiplied with.
            episode_limit: The most steps, where they shall be fewer than the environment's own, or it has no limit.
            win_key: The key of ``info`` that tells of a win.
            measures: The keys of the last ``info`` that are measures, beside those under its ``episode_measures``.
            at_limit: What an end at the limit is that the environment does not explain.
            fresh: Whether it is made anew for every episode; None: where a trial episode shows that it has to be.
            habits: What it is like; without, a trial episode is played to see that.
            launch: Whether to look at a first row at once; else what the environment tells of its sizes is believed.
            settings: What `make` was told, to be written to datasets.

        Raises:
            UserError: A setting can't be used, or the environment lacks what it needs.
        """
        check_known("reward", reward, ("sum", "mean"))
        check_known("at_limit", at_limit, ("truncated", "terminal"))
        self._make, self._generators = make, Generators()
        self._env: Any = None
        self._held: list[Any] = []  # the environment, for whoever closes it when the adapter, or Python, ends
        weakref.finalize(self, _close, self._held)
        check_positive("reward_scale", reward_scale)
        self._combine, self._scale = np.sum if reward == "sum" else np.mean, reward_scale
        self._win_keys = WIN_KEYS if win_key is None else (win_key,)
        self._measures = own_measures.names_of(measures)
        self._cut_at_limit = at_limit == "truncated"
        self._t, self._has_win, self._talks = 0, win_key is not None, habits is not None and habits.talks
        self._renew(0)
        self._n_actions = actions_told(self._env)
        found = sizes(name, self._env, self._reset(0) if launch else None)
        limits = [int(x) for x in (found.pop("episode_limit"), episode_limit) if x is not None]
        if not limits:
            raise UserError(f"{name} does not tell its episode_limit, so it needs that setting, in steps.")
        check_positive("episode_limit", float(min(limits)))
        own = {"reward": reward, "reward_scale": reward_scale, "episode_limit": episode_limit}
        own |= {"win_key": win_key, "at_limit": at_limit, "fresh": fresh}
        found["episode_limit"] = min(limits)
        self.spec = EnvSpec(name, version, settings=dict(settings or {}) | own, has_win=True, **found)
        self.habits = habits or self._learn(fresh)
        self.spec = self.spec._replace(has_win=self.habits.has_win)
        self.repeatable = self.habits.repeatable
        self._stale = True  # the first episode's seed makes it anew, lest all copies be alike

    def reset_host(self, seed: int) -> Observation:
        """Start an episode; where something survives ``reset``, in an environment made anew."""
        if self._stale:
            self._renew(seed)
            self._stale = self.habits.fresh
        return self._observation(self._reset(seed))

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly; the actions (int, shape (N,)) are handed over as a list of Python's own numbers."""
        self._t += 1
        timeouts = count_of(self._env, "timeouts")
        with self._watched(contextlib.redirect_stdout(io.StringIO())):
            returned = self._env.step(actions_of(action))
            seen = look(self._env, self._n_actions)
        rewards, terminated, cut, info = parts(f"{self.spec.name}, step {self._t}", returned)
        reward = float(self._combine(rewards))
        late = self._t >= self.spec.episode_limit
        if terminated and not info and not reward and self._talks and not late:
            raise Crashed("the game crashed: its step returned 0, True, {}")
        told = [bool(np.all(info[key])) for key in self._win_keys if key in info]
        self._talks, self._has_win = self._talks or bool(info), self._has_win or bool(told)
        explained = "episode_limit" in info or timeouts is not None or any(told) or not self._cut_at_limit
        cut |= (count_of(self._env, "timeouts") or 0) > (timeouts or 0)
        truncated = cut or (late and not (terminated and explained))
        over = terminated or truncated
        self.episode_measures = own_measures.told([info], self._measures) if over else {}
        result = _result(
            reward=np.float32(reward * self._scale),
            terminal=np.bool_(over and not truncated),
            truncated=np.bool_(truncated),
            won=np.bool_(over and any(told)),
        )
        return self._observation(seen, over), result

    def close(self) -> None:
        """End the game."""
        _close(self._held)

    @contextlib.contextmanager
    def _watched(self, silence: Any) -> Any:
        """A call of the environment: contained, and a crash in it is noticed where the environment counts them."""
        before = count_of(self._env, "force_restarts") or 0
        with self._generators.lent(), silence:
            yield
        if (count_of(self._env, "force_restarts") or 0) > before:
            raise Crashed("the game crashed and was launched anew")

    def _renew(self, seed: int) -> None:
        self.close()
        self._generators.seed(seed)
        with self._generators.lent(), quiet():
            self._env = self._make(seed)
            self._held.append(self._env)

    def _reset(self, seed: int) -> Look:
        """The first row after ``reset``, which is told the seed as the environment takes one, if any."""
        self._t = 0
        self._generators.seed(seed)
        with self._watched(quiet()):
            if takes(self._env.reset, "seed"):
                self._env.reset(seed=seed)
            else:
                if takes(getattr(self._env, "seed", None)):
                    with contextlib.suppress(NotImplementedError):
                        self._env.seed(seed)
                self._env.reset()
            return look(self._env, self._n_actions)

    def _observation(self, seen: Look, over: bool = False) -> Observation:
        rows, state, legal = seen
        obs = padded(rows, self.spec.obs_size)
        masks = [np.ones(self.spec.n_actions, bool)] * self.spec.n_agents if legal is None else legal
        avail = padded(masks, self.spec.n_actions)
        if over:
            avail[~avail.any(axis=1), NO_OP] = True  # nobody acts any more
        return _observe(obs, obs.ravel().copy() if state is None else state, avail)

    def _learn(self, fresh: bool | None) -> Habits:
        """Play an episode, two others, and the first again by the same actions; where that differs, then made anew.

        fresh: the answer, where it is given; then only whether seeds repeat episodes is found out.
        """
        self.habits, self._stale = Habits(False, True, True, False), True
        rows, actions = trial.play(self)
        for other in (1, 2):
            trial.play(self, other)
        kept = not fresh and trial.same(rows, trial.play(self, 0, actions)[0])
        self._stale = True
        anew = fresh is not False and not kept and trial.same(rows, trial.play(self, 0, actions)[0])
        return Habits(anew if fresh is None else fresh, kept or anew, self._has_win, self._talks)


def _close(held: list[Any]) -> None:
    """Close an environment, once."""
    while held:
        with contextlib.suppress(Exception), quiet():
            getattr(held.pop(), "close", lambda: None)()


def from_class(target: str, **settings: Any) -> MultiAgentTeam:
    """What ``MODULE:CLASS`` makes with the settings, as a team; a seed goes to it where it takes one.

    Raises `UserError` for a class that is not there, and for unknown settings.
    """
    name = f"pymarl:{target}"
    require(":" in target, f"{name}: expected pymarl:MODULE:CLASS, such as pymarl:smac.env:StarCraft2Env.")
    with quiet():
        build = load(target)
    return adapted(name, by_name(build), settings, version_of(target))


def adapted(
    name: str, build: Callable[..., Any], settings: Mapping[str, Any], version: str, **known: Any
) -> MultiAgentTeam:
    """What `build` makes with the settings, as a team; what a trial showed of it is remembered for the next copy.

    settings: those of `OWN` are the adapter's; `build` is told those of them that it takes, too, and all others.
    known: more for `MultiAgentTeam`.
    """
    require_json(name, settings)
    own = {key: settings.get(key, default) for key, default in OWN.items()}
    both = {key: value for key, value in own.items() if value is not None and takes(build, key)}
    told = both | {key: value for key, value in settings.items() if key not in OWN}
    resolved = check_settings(name, build, told) | told
    seeded = takes(build, "seed") and told.get("seed") is None
    shown = {key: value for key, value in resolved.items() if is_json(value) and not (seeded and key == "seed")}
    written = json.loads(json.dumps(shown))

    def make(seed: int) -> Any:
        return build(**(copy.deepcopy(told) | ({"seed": seed} if seeded else {})))

    key = json.dumps([name, written, own], sort_keys=True)
    known = {"habits": _known_habits.get(key)} | known
    team = MultiAgentTeam(make, name=name, version=version, settings=written, **own, **known)
    _known_habits[key] = team.habits
    return team
