"""Collect whole episodes: inside the compiled program for a JAX environment, outside it for a host environment.

Only this file differs between the two worlds; what is learned from the episodes is shared.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from ovmse.envs.protocol import Environment, HostEnvironment
from ovmse.networks import Agent, agent_step, first_hidden
from ovmse.types import EnvSpec, Episode, Outcome, View

Pick = Callable[[PRNGKeyArray, Float[Array, "N A"], Bool[Array, "N A"]], Int[Array, " N"]]
"""(step's key, utilities, legal actions) → a joint action."""


class Rollout(NamedTuple):
    """Episodes stacked on a leading axis B, and whether each was won."""

    episodes: Episode
    won: Bool[Array, " B"]


class Acting(NamedTuple):
    """What a team carries from row to row, for B episodes at once."""

    hidden: Float[Array, "B N H"]
    last_action: Float[Array, "B N A"]


def start_acting(agent: Agent, spec: EnvSpec, episodes: int) -> Acting:
    """Before the first row: no memory, no last action."""
    hidden = first_hidden(agent, spec.n_agents)
    return Acting(
        hidden=jnp.broadcast_to(hidden, (episodes, *hidden.shape)),
        last_action=jnp.zeros((episodes, spec.n_agents, spec.n_actions)),
    )


def act(
    agent: Agent,
    pick: Pick,
    seeds: Key[Array, " B"],
    t: Int[Array, ""],
    acting: Acting,
    obs: Float[Array, "B N O"],
    avail: Bool[Array, "B N A"],
) -> tuple[Acting, Int[Array, "B N"]]:
    """Joint actions at row t of B episodes. Each agent could derive its own from its episode's shared seed and t."""
    hidden, q = agent_step(agent, acting.hidden, obs, acting.last_action)
    step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(seeds, t)
    action = jax.vmap(pick)(step_keys, q, avail)
    return Acting(hidden, jax.nn.one_hot(action, q.shape[-1])), action


def episode_keys(keys: Key[Array, " B"]) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    """Of each episode's key: the environment's, and the exploration seed that the team shares."""
    both = jax.vmap(jax.random.split)(keys)
    return both[:, 0], both[:, 1]


def collect(
    env: Environment,
    agent: Agent,
    pick: Pick,
    keys: Key[Array, " B"],
    any_seed: Callable[[Array], Array] = jnp.any,
) -> Rollout:
    """Play one episode per key in a JAX environment; steps after the last episode's end are skipped.

    any_seed: tells whether an episode goes on, over all seeds where seeds are mapped by `jax.vmap`.
    """
    spec, episodes = env.spec, keys.shape[0]
    env_keys, seeds = episode_keys(keys)
    env_state, view = jax.vmap(lambda k: env.reset(jax.random.fold_in(k, 0)))(env_keys)
    nothing = Outcome(*(jnp.zeros((episodes,), x) for x in (jnp.float32, bool, bool, bool)))
    idle = jnp.zeros((episodes, spec.n_agents), jnp.int32)

    def play(t, acting, env_state, view, going):
        acting, action = act(agent, pick, seeds, t, acting, view.obs, view.avail)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(env_keys, t + 1)
        env_state, after, outcome = jax.vmap(env.step)(step_keys, env_state, action)
        # an ended episode keeps its last view, and nothing more happens in it
        view = jax.tree.map(lambda new, old: jnp.where(_over(going, new), new, old), after, view)
        outcome = jax.tree.map(lambda x: jnp.where(going, x, jnp.zeros_like(x)), outcome)
        return acting, env_state, view, action.astype(jnp.int32), outcome

    def step(carry, t):
        acting, env_state, view, going = carry
        acting, env_state, after, action, outcome = jax.lax.cond(
            any_seed(going),
            lambda: play(t, acting, env_state, view, going),
            lambda: (acting, env_state, view, idle, nothing),
        )
        ended = outcome.terminal | outcome.truncated | (t + 1 >= spec.episode_limit)
        return (acting, env_state, after, going & ~ended), (view, action, outcome, going)

    carry = start_acting(agent, spec, episodes), env_state, view, jnp.ones((episodes,), bool)
    carry, (views, action, outcome, valid) = jax.lax.scan(step, carry, jnp.arange(spec.episode_limit))
    views = jax.tree.map(lambda rows, last: jnp.concatenate([rows, last[None]]), views, carry[2])
    stacked = (*views, action, outcome.reward, outcome.terminal, valid)
    return Rollout(Episode(*(jnp.swapaxes(x, 0, 1) for x in stacked)), outcome.won.any(axis=0))


def _over(flag: Bool[Array, " B"], like: Array) -> Array:
    return flag.reshape(flag.shape + (1,) * (like.ndim - 1))


ActHost = Callable[[int, Acting, np.ndarray, np.ndarray], tuple[Acting, np.ndarray]]
"""(row, what is carried, observations [B, N, O], legal actions [B, N, A]) → what is carried, joint actions [B, N]."""


def collect_host(envs: list[HostEnvironment], act_at: ActHost, acting: Acting, seeds: list[int]) -> Rollout:
    """Play one episode in each host environment, in lock-step, so that one call acts for all of them."""
    spec, count = envs[0].spec, len(envs)
    limit = spec.episode_limit
    rows: dict[str, np.ndarray] = {
        "obs": np.zeros((count, limit + 1, spec.n_agents, spec.obs_size), np.float32),
        "state": np.zeros((count, limit + 1, spec.state_size), np.float32),
        "avail": np.ones((count, limit + 1, spec.n_agents, spec.n_actions), bool),
    }
    steps: dict[str, np.ndarray] = {
        "action": np.zeros((count, limit, spec.n_agents), np.int32),
        "reward": np.zeros((count, limit), np.float32),
        "terminal": np.zeros((count, limit), bool),
        "valid": np.zeros((count, limit), bool),
    }
    won, going = np.zeros(count, bool), np.ones(count, bool)

    def record(i: int, t: int, view: View) -> None:
        for name, value in view._asdict().items():
            rows[name][i, t:] = value  # the last view stays

    for i, (env, seed) in enumerate(zip(envs, seeds, strict=True)):
        record(i, 0, env.reset_host(seed))
    for t in range(limit):
        if not going.any():
            break
        acting, action = act_at(t, acting, rows["obs"][:, t], rows["avail"][:, t])
        for i in np.flatnonzero(going).tolist():
            view, outcome = envs[i].step_host(action[i])
            record(i, t + 1, view)
            steps["action"][i, t], steps["valid"][i, t] = action[i], True
            steps["reward"][i, t], steps["terminal"][i, t] = outcome.reward, outcome.terminal
            won[i] |= bool(outcome.won)
            going[i] = not (outcome.terminal or outcome.truncated)
    arrays: Any = {**rows, **steps}
    return Rollout(Episode(**arrays), cast(Any, won))
