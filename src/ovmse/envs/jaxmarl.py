"""JaxMARL's environments, in JAX: MPE's games, Overcooked, and what else it registers (SMAX has its own adapter)."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse.core.errors import UserError, check_known, check_positive, did_you_mean
from ovmse.core.kinds import kinds_of
from ovmse.core.padding import own_actions
from ovmse.core.types import EnvSpec, EnvState, Observation, StepResult
from ovmse.envs.compiled import combined, imported, stacked, strongly_typed
from ovmse.envs.protocol import require_json
from ovmse.system.plugins import version_of


class JaxMarlTeam:
    """What jaxmarl registers by a name, such as ``MPE_simple_spread_v3`` or ``overcooked_v2``.

    Observations are flattened and, where agents are unlike, padded with zeros, actions with ones that are never legal.
    The state is the library's ``world_state``, or all observations in a row.

    Reward: the mean of the agents', or their sum, times `reward_scale`. `episode_limit` is the environment's
    ``max_steps`` where it has one. Truncated: that many steps are over; terminal: the environment ends before.

    Raises `UserError` for names and settings that are not there, and for actions that are not discrete.
    """

    spec: EnvSpec

    def __init__(
        self,
        name: str,
        *,
        reward: str = "mean",
        reward_scale: float = 1.0,
        episode_limit: int | None = None,
        **settings: Any,
    ) -> None:
        full = f"jaxmarl:{name}"
        check_known("reward", reward, ("sum", "mean"))
        check_positive("reward_scale", reward_scale)
        library = imported(full, "jaxmarl", "it comes with ovmse, but is not to be found here")
        if name not in library.registered_envs:
            raise UserError(f"{full}: jaxmarl has no such environment.{did_you_mean(name, library.registered_envs)}")
        require_json(full, settings)
        kind = type(library.make(name))
        known = [p.name for each in _constructors(kind) for p in each]
        for key in settings:
            check_known(f"setting of {full}", key, [*known, "reward", "reward_scale", "episode_limit"])
        self._env = library.make(name, **settings)
        self._agents, self._how, self._scale = list(self._env.agents), reward, reward_scale
        limit = getattr(self._env, "max_steps", None) if episode_limit is None else episode_limit
        if limit is None:
            raise UserError(f"{full} has no max_steps, so it needs the setting episode_limit, in steps.")
        check_positive("episode_limit", float(limit))
        self._counts = [self._actions(full, agent) for agent in self._agents]
        plain = {p.name: p.default for p in _constructors(kind)[0] if isinstance(p.default, bool | int | float)}
        ours = {"reward": reward, "reward_scale": reward_scale, "episode_limit": episode_limit}
        first, state = jax.eval_shape(self._env.reset, jax.random.key(0))
        asked = (getattr(self._env, method, None) for method in ("get_avail_actions", "get_legal_moves"))
        self._masks = next((ask for ask in asked if ask is not None and _answers(ask, state)), None)
        size = max(first[agent].size for agent in self._agents)
        whole = first["world_state"].size if "world_state" in first else size * len(self._agents)
        own = ((first[agent].size, count) for agent, count in zip(self._agents, self._counts, strict=True))
        self.spec = EnvSpec(
            full,
            version_of("jaxmarl"),
            plain | settings | ours,
            len(self._agents),
            max(self._counts),
            size,
            whole,
            int(limit),
            False,
            tuple(self._agents),
            kinds_of(own),
        )

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Observation]:
        """A first state and what the team sees of it."""
        obs, state = self._env.reset(key)
        state = strongly_typed(state)
        return (state, jnp.zeros((), jnp.int32)), self._seen(obs, state)

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Int[Array, " N"]
    ) -> tuple[EnvState, Observation, StepResult]:
        """The state after the joint action; jaxmarl's own ``step`` would start anew at the end."""
        before, t = state
        moves = dict(zip(self._agents, action.astype(jnp.int32), strict=True))
        obs, after, rewards, done, _ = self._env.step_env(key, before, moves)
        after, t = strongly_typed(after), t + 1
        late = t >= self.spec.episode_limit
        result = StepResult(
            reward=self._scale * combined(jnp.stack([jnp.asarray(rewards[a]) for a in self._agents]), self._how),
            terminal=jnp.asarray(done["__all__"], bool) & ~late,
            truncated=late,
            won=jnp.zeros((), bool),
        )
        return (after, t), self._seen(obs, after), result

    def _seen(self, obs: Mapping[str, Array], state: Any) -> Observation:
        rows = stacked([obs[agent] for agent in self._agents], self.spec.obs_size)
        whole = jnp.asarray(obs["world_state"], jnp.float32).ravel() if "world_state" in obs else rows.ravel()
        avail = jnp.asarray(own_actions([range(count) for count in self._counts], self.spec.n_actions))
        if self._masks is not None:
            masks = self._masks(state)
            avail &= stacked([masks[agent] for agent in self._agents], self.spec.n_actions).astype(bool)
        return Observation(rows, whole, avail)

    def _actions(self, name: str, agent: str) -> int:
        space = self._env.action_space(agent)
        if not hasattr(space, "n"):
            raise UserError(
                f"{name}: agent {agent} has the action space {type(space).__name__}; only Discrete ones are taken."
            )
        return int(space.n)


def _answers(function: Any, state: Any) -> bool:
    """Whether masks can be asked for in this way."""
    try:
        jax.eval_shape(function, state)
    except NotImplementedError:
        return False
    return True


def _constructors(kind: type) -> list[list[inspect.Parameter]]:
    """What a class takes by name, then what its bases do, as long as each hands on what it does not know."""
    found = []
    for each in kind.__mro__:
        parameters = list(inspect.signature(each.__init__).parameters.values())[1:]  # type: ignore[misc]
        found.append([p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)])
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
