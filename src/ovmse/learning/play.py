"""How seeds play in each kind of environment: in a compiled program, or on the host. What is played is used alike."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ovmse.config import Config
from ovmse.core import action_selection
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.envs.protocol import AnyEnvironment, Environment, HostEnvironment, is_host
from ovmse.envs.settings import make_by_options
from ovmse.learning.parallel import SeedBatches, any_over_seeds, over_cores, over_seeds, seeds_per_batch
from ovmse.learning.phases import progress_of
from ovmse.learning.rollout import (
    Pick,
    Rollout,
    Teams,
    act,
    collect,
    collect_host,
    episode_keys,
    round_keys,
    start_acting,
)
from ovmse.learning.workers import Workers, check_workers
from ovmse.methods.method import Method
from ovmse.methods.signatures import ActionInputs
from ovmse.system.clock import Clock


class Actor(NamedTuple):
    """Who plays: a team (or two), the key that all its episodes derive from, and what it played online so far."""

    teams: Teams
    key: PRNGKeyArray
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]


CollectFn = Callable[[SeedBatches, int, float | None], SeedBatches]
"""(batches of `Actor`, turn, ε) → batches of `Rollout`: `episodes_per_collect` episodes played by every seed's team.

Other turns are other episodes. Each agent acts at random with probability ε; without ε the method explores.
"""


def make_collect(
    config: Config,
    env: AnyEnvironment,
    method: Method,
    say: Callable[[str], None] = lambda text: None,
    clock: Clock | None = None,
) -> CollectFn:
    """What plays in an environment, for training, evaluation and recording; it is compiled once, when first called.

    say: told of every host environment that had to be restarted. clock: what play on the host took is added to it.
    Raises `UserError` where workers are asked for that can't play.
    """
    check_workers(config, env, method)
    if config.workers > 1:
        return Workers(config, env.spec, method, say)
    if is_host(env):
        return _host_collect(config, cast(HostEnvironment, env), method, say, clock or Clock())
    return _compiled_collect(config, cast(Environment, env), method)


def begin(
    collect_episodes: CollectFn, actors: SeedBatches, turn: int, epsilon: float | None
) -> Callable[[], SeedBatches]:
    """A round as `CollectFn` plays it, whose result is asked for later: workers have it played by then."""
    if isinstance(collect_episodes, Workers):
        return collect_episodes.begin(actors, turn, epsilon)
    return lambda: collect_episodes(actors, turn, epsilon)


@contextlib.contextmanager
def closing(collect_episodes: CollectFn | None) -> Iterator[None]:
    """While entered, episodes can be played; then the workers end, where there are any."""
    try:
        yield
    finally:
        if isinstance(collect_episodes, Workers):
            collect_episodes.pool.close()


def _pick(method: Method, epsilon: Float[Array, ""]) -> Pick:
    """How a team acts: as the method explores, or at a given ε where that is not negative."""

    def pick(key: PRNGKeyArray, inputs: ActionInputs) -> Array:
        inputs = inputs._replace(q=method.acting_utilities(inputs))

        def explores() -> Array:
            return method.explore(key, inputs).astype(jnp.int32)

        def at_random() -> Array:
            return action_selection.epsilon_greedy(key, inputs.q, inputs.avail, epsilon).astype(jnp.int32)

        return jax.lax.cond(epsilon < 0, explores, at_random)

    return pick


def _compiled_collect(config: Config, env: Environment, method: Method) -> CollectFn:
    def one(config: Config, method: Method, actor: Actor, turn: Array, epsilon: Array) -> Rollout:
        progress, keys = progress_of(config, actor.env_steps), round_keys(actor.key, turn, config.episodes_per_collect)
        length = _typical_length(actor, env.spec)

        def episodes(keys: Key[Array, " B"]) -> Rollout:
            return collect(env, actor.teams, _pick(method, epsilon), keys, any_over_seeds, progress, length)

        return over_cores(episodes, keys)

    play = over_seeds(one, config.seeds, keep=True, settings=(config, method))
    return lambda actors, turn, epsilon: play(actors, np.int32(turn), _number(epsilon))


def _typical_length(actor: Actor, spec: EnvSpec) -> Float[Array, ""]:
    """See `ActionInputs`."""
    played = actor.env_steps / jnp.maximum(1, actor.episodes)
    return jnp.where(actor.episodes > 0, played, float(spec.episode_limit))


def _number(epsilon: float | None) -> np.float32:
    return np.float32(-1.0 if epsilon is None else epsilon)


def mender(
    envs: Sequence[GuardedEnv], limit: int, say: Callable[[str], None] = lambda text: None
) -> Callable[[int, EnvFault], None]:
    """What restarts the i-th environment after a fault, `limit` times in all; then it raises `UserError`."""
    restarts = itertools.count(1)

    def mend(i: int, fault: EnvFault) -> None:
        name = envs[i].spec.name
        if (number := next(restarts)) > limit:
            raise UserError(
                f"{name}: {fault}. It was restarted {limit} times before, which is the limit (--env-restarts)."
            ) from fault
        say(f"{name}: {fault}; episode discarded, environment restarted ({number} of {limit})")
        envs[i].restart()

    return mend


def _host_collect(
    config: Config, env: HostEnvironment, method: Method, say: Callable[[str], None], clock: Clock
) -> CollectFn:
    batch, together = config.episodes_per_collect, seeds_per_batch(config.seeds)

    def another() -> HostEnvironment:
        return cast(HostEnvironment, make_by_options(str(config.env), config.env_settings, config.env_python))

    envs = [GuardedEnv(another, config.env_seconds) for _ in range(together * batch)]
    mend = mender(envs, config.env_restarts, say)

    def begin(actor: Actor, turn: Array) -> tuple[Any, Any, Any]:
        env_keys, team_keys = episode_keys(round_keys(actor.key, turn, batch))
        return start_acting(actor.teams, env.spec, batch), jax.random.key_data(env_keys)[:, -1], team_keys

    def step(config: Config, method: Method, x: tuple, t: Array, epsilon: Array) -> Any:
        actor, acting, observation, keys = x
        progress, length = progress_of(config, actor.env_steps), _typical_length(actor, env.spec)
        return act(actor.teams, env.spec, _pick(method, epsilon), keys, t, acting, observation, progress, length)

    begin_all = over_seeds(begin, config.seeds, keep=True)
    step_all = over_seeds(step, config.seeds, keep=True, settings=(config, method))

    def play(actors: SeedBatches, turn: int, epsilon: float | None) -> SeedBatches:
        played = []
        for actor in actors:
            jax.block_until_ready(actor)  # so that the wait for what it learns is not counted as play
            with clock.measure("playing"):
                played.append(play_round(actor, turn, epsilon))
        return played

    def play_round(actor: Actor, turn: int, epsilon: float | None) -> Rollout:
        [(acting, env_seeds, keys)] = begin_all([actor], np.int32(turn))

        def act_at(t: int, acting: Any, observation: Observation) -> tuple[Any, np.ndarray]:
            by_seed = jax.tree.map(lambda x: x.reshape(together, batch, *x.shape[1:]), observation)
            with clock.measure("acting"):
                [(acting, action)] = step_all([(actor, acting, by_seed, keys)], np.int32(t), _number(epsilon))
                return acting, np.asarray(action).reshape(together * batch, -1)

        numbers = np.asarray(env_seeds).astype(np.int64).reshape(-1) % 2**31
        rollout = collect_host(list(envs), act_at, acting, numbers.tolist(), mend)
        return jax.tree.map(lambda x: x.reshape(together, batch, *x.shape[1:]), rollout)

    return play
