"""Collect whole episodes: inside the compiled program for a JAX environment, outside it for a host environment.

Only this file differs between the two kinds; what is learned from the episodes is shared.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from ovmse.core.mixers import weights_at
from ovmse.core.networks import Team, agent_step, first_hidden
from ovmse.core.padding import present
from ovmse.core.types import EnvSpec, EnvState, Episode, Observation, StepResult
from ovmse.envs.guarded import EnvFault, again
from ovmse.envs.measures import measures_of
from ovmse.envs.protocol import Environment, HostEnvironment
from ovmse.methods.signatures import ActionInputs, PolicyOutput

PLAYING = 2  # folded into a team's key to play: learning splits the same key in two, which folds in 0 and 1
Pick = Callable[[PRNGKeyArray, ActionInputs], Int[Array, " N"]]
"""(step's key, what is seen) → a joint action."""


class Rollout(NamedTuple):
    """Episodes stacked on a leading axis B, and whether each was won.

    measures: what a host environment tells of each by names of its own (`ovmse.envs.measures`); NaN where it does not.
    """

    episodes: Episode
    won: Bool[Array, " B"]
    measures: dict[str, Float[np.ndarray, " B"]] = {}  # never written to


Measured = TypeVar("Measured", bound=Any)


def alike(parts: Sequence[Measured]) -> list[Measured]:
    """Rollouts, or what was made of them, with the same measures each: NaN where one lacks what another has."""
    names = dict.fromkeys(name for part in parts for name in part.measures)

    def filled(part: Measured) -> Measured:
        nothing = np.full(np.shape(part.won), np.nan)
        return part._replace(measures={name: part.measures.get(name, nothing) for name in names})

    return [filled(part) for part in parts]


def rollout_shapes(spec: EnvSpec, *leading: int) -> Rollout:
    """The shapes and types of what is played in a JAX environment, the last of the leading axes being B."""
    steps, agents = spec.episode_limit, spec.n_agents

    def shape(dtype: Any, *axes: int) -> Any:
        return jax.ShapeDtypeStruct((*leading, *axes), dtype)

    episodes = Episode(
        obs=shape(jnp.float32, steps + 1, agents, spec.obs_size),
        state=shape(jnp.float32, steps + 1, spec.state_size),
        avail=shape(bool, steps + 1, agents, spec.n_actions),
        action=shape(jnp.int32, steps, agents),
        reward=shape(jnp.float32, steps),
        terminal=shape(bool, steps),
        valid=shape(bool, steps),
    )
    return Rollout(episodes, won=shape(bool))


class Teams(NamedTuple):
    """Who acts: the team, and where the method asks for it the one that left the offline phase."""

    online: Team
    offline: Team | None = None


class Acting(NamedTuple):
    """What a team carries from row to row, for B episodes at once; hidden has a state for each of the teams."""

    hidden: list[Float[Array, "B N H"]]
    last_action: Float[Array, "B N A"]


def start_acting(teams: Teams, spec: EnvSpec, episodes: int) -> Acting:
    """Before the first row: no memory, no last action."""
    hidden = [first_hidden(team.agent, spec.n_agents) for team in teams if team is not None]
    return Acting(
        hidden=[jnp.broadcast_to(h, (episodes, *h.shape)) for h in hidden],
        last_action=jnp.zeros((episodes, spec.n_agents, spec.n_actions)),
    )


def act(
    teams: Teams,
    spec: EnvSpec,
    pick: Pick,
    seeds: Key[Array, " B"],
    t: Int[Array, ""],
    acting: Acting,
    observation: Observation,
    progress: Float[Array, ""],
    typical_length: Float[Array, ""],
) -> tuple[Acting, Int[Array, "B N"]]:
    """Joint actions at row t of B episodes. Each agent could derive its own from its episode's shared seed and t.

    progress, typical_length: see `ActionInputs`.
    """

    there = present(observation.obs, observation.avail)

    def listen(team: Team, hidden: Float[Array, "B N H"]) -> tuple[Float[Array, "B N H"], PolicyOutput]:
        hidden, heads = agent_step(team.agent, hidden, observation.obs, acting.last_action)
        return hidden, PolicyOutput(heads, weights_at(team.mixer, observation.state, there))

    heard = [listen(team, h) for team, h in zip([x for x in teams if x is not None], acting.hidden, strict=True)]
    outputs = [output for _, output in heard]
    offline = outputs[1] if len(outputs) > 1 else None

    def choose(key: PRNGKeyArray, avail: Array, online: PolicyOutput, offline: PolicyOutput | None) -> Int[Array, " N"]:
        inputs = ActionInputs(online.heads.acting, avail, t, progress, online, offline, typical_length)
        return pick(key, inputs)

    step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(seeds, t)
    action = jax.vmap(choose)(step_keys, observation.avail, outputs[0], offline)
    return Acting([hidden for hidden, _ in heard], jax.nn.one_hot(action, spec.n_actions)), action


def round_keys(key: PRNGKeyArray, turn: Int[Array, ""], count: int) -> Key[Array, " B"]:
    """One key for each of the `count` episodes of a seed's round, by the episode's number; key: the seed's."""
    base = jax.random.fold_in(key, PLAYING)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(turn * count + jnp.arange(count))


def episode_keys(keys: Key[Array, " B"]) -> tuple[Key[Array, " B"], Key[Array, " B"]]:
    """Of each episode's key: the environment's, and the exploration seed that the team shares."""
    both = jax.vmap(jax.random.split)(keys)
    return both[:, 0], both[:, 1]


def collect(
    env: Environment,
    teams: Teams,
    pick: Pick,
    keys: Key[Array, " B"],
    any_seed: Callable[[Array], Array] = jnp.any,
    progress: Float[Array, ""] | float = 0.0,
    typical_length: Float[Array, ""] | float | None = None,
) -> Rollout:
    """Play one episode per key in a JAX environment; steps after the last episode's end are skipped.

    any_seed: tells whether an episode goes on, over all seeds where seeds are mapped by `jax.vmap`. progress,
    typical_length: see `ActionInputs`; by default the first episodes are played.
    """
    spec, episodes, spent = env.spec, keys.shape[0], jnp.asarray(progress, jnp.float32)
    length = jnp.asarray(spec.episode_limit if typical_length is None else typical_length, jnp.float32)
    env_keys, seeds = episode_keys(keys)
    env_state, observation = jax.vmap(lambda k: env.reset(jax.random.fold_in(k, 0)))(env_keys)
    nothing = StepResult(*(jnp.zeros((episodes,), x) for x in (jnp.float32, bool, bool, bool)))
    idle = jnp.zeros((episodes, spec.n_agents), jnp.int32)

    def play(
        t: Int[Array, ""], acting: Acting, env_state: EnvState, observation: Observation, going: Bool[Array, " B"]
    ) -> tuple[Acting, EnvState, Observation, Int[Array, "B N"], StepResult]:
        acting, action = act(teams, spec, pick, seeds, t, acting, observation, spent, length)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(env_keys, t + 1)
        env_state, after, result = jax.vmap(env.step)(step_keys, env_state, action)
        # an ended episode keeps its last observation, and nothing more happens in it
        observation = jax.tree.map(lambda new, old: jnp.where(_over(going, new), new, old), after, observation)
        result = jax.tree.map(lambda x: jnp.where(going, x, jnp.zeros_like(x)), result)
        return acting, env_state, observation, action.astype(jnp.int32), result

    def step(
        carry: tuple[Acting, EnvState, Observation, Bool[Array, " B"]], t: Int[Array, ""]
    ) -> tuple[tuple[Acting, EnvState, Observation, Bool[Array, " B"]], tuple[Any, ...]]:
        acting, env_state, observation, going = carry
        acting, env_state, after, action, result = jax.lax.cond(
            any_seed(going),
            lambda: play(t, acting, env_state, observation, going),
            lambda: (acting, env_state, observation, idle, nothing),
        )
        ended = result.terminal | result.truncated | (t + 1 >= spec.episode_limit)
        return (acting, env_state, after, going & ~ended), (observation, action, result, going)

    carry = start_acting(teams, spec, episodes), env_state, observation, jnp.ones((episodes,), bool)
    carry, (observations, action, result, valid) = jax.lax.scan(step, carry, jnp.arange(spec.episode_limit))
    observations = jax.tree.map(lambda rows, last: jnp.concatenate([rows, last[None]]), observations, carry[2])
    stacked = (*observations, action, result.reward, result.terminal, valid)
    return Rollout(Episode(*(jnp.swapaxes(x, 0, 1) for x in stacked)), result.won.any(axis=0))


def _over(flag: Bool[Array, " B"], like: Array) -> Array:
    return flag.reshape(flag.shape + (1,) * (like.ndim - 1))


def blank(spec: EnvSpec, count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The rows and the steps of so many episodes on the host that are yet to be played, by the names of `Episode`."""
    limit, n = spec.episode_limit, spec.n_agents
    rows = {
        "obs": np.zeros((count, limit + 1, n, spec.obs_size), np.float32),
        "state": np.zeros((count, limit + 1, spec.state_size), np.float32),
        "avail": np.ones((count, limit + 1, n, spec.n_actions), bool),
    }
    steps = {
        "action": np.zeros((count, limit, n), np.int32),
        "reward": np.zeros((count, limit), np.float32),
        "terminal": np.zeros((count, limit), bool),
        "valid": np.zeros((count, limit), bool),
    }
    return rows, steps


ActHost = Callable[[int, Acting, Observation], tuple[Acting, np.ndarray]]
"""(row, what is carried, observations with a leading axis B) → what is carried, joint actions [B, N]."""


def collect_host(
    envs: list[HostEnvironment],
    act_at: ActHost,
    acting: Acting,
    seeds: list[int],
    mend: Callable[[int, EnvFault], None] | None = None,
) -> Rollout:
    """Play one episode in each host environment, in lock-step, so that one call acts for all of them.

    mend: called with the number of an environment whose episode failed; it restarts that or raises. The episode is
    discarded and played anew with another seed. Without it a `EnvFault` is raised.
    """
    spec, count = envs[0].spec, len(envs)
    limit = spec.episode_limit
    rows, steps = blank(spec, count)
    won, measures = np.zeros(count, bool), dict[str, np.ndarray]()

    def record(i: int, t: int, observation: Observation) -> None:
        for name, value in observation._asdict().items():
            rows[name][i, t:] = value  # the last observation stays

    def attempt(i: int, call: Callable[[], None]) -> bool:
        """Whether a call to an environment went well; else nothing stays of its episode."""
        try:
            call()
        except EnvFault as fault:
            if mend is None:
                raise
            mend(i, fault)
            for values in (*steps.values(), won):
                values[i] = 0
            return False
        return True

    def play(going: np.ndarray, number: int) -> np.ndarray:
        """Play the episodes that `going` marks; which of them failed. number: how many times they were played."""
        failed, carried = np.zeros(count, bool), acting
        for i in np.flatnonzero(going).tolist():
            failed[i] = not attempt(i, lambda: record(i, 0, envs[i].reset_host(again(seeds[i], number))))  # noqa: B023
        going = going & ~failed
        for t in range(limit):
            if not going.any():
                break
            carried, action = act_at(
                t, carried, Observation(*(cast(Any, rows[name][:, t]) for name in Observation._fields))
            )

            def step(i: int) -> None:
                observation, result = envs[i].step_host(action[i])  # noqa: B023
                record(i, t + 1, observation)  # noqa: B023
                steps["action"][i, t], steps["valid"][i, t] = action[i], True  # noqa: B023
                steps["reward"][i, t], steps["terminal"][i, t] = result.reward, result.terminal  # noqa: B023
                won[i] |= bool(result.won)
                going[i] = not (result.terminal or result.truncated)  # noqa: B023
                for name, value in ({} if going[i] else measures_of(envs[i])).items():  # noqa: B023
                    measures.setdefault(name, np.full(count, np.nan))[i] = value  # noqa: B023

            for i in np.flatnonzero(going).tolist():
                if not attempt(i, lambda: step(i)):  # noqa: B023
                    failed[i], going[i] = True, False
        return failed

    left, number = np.ones(count, bool), 0
    while left.any():
        left, number = play(left, number), number + 1
    arrays: Any = {**rows, **steps}
    return Rollout(Episode(**arrays), cast(Any, won), measures)
