"""How seeds play in each kind of environment: in a compiled program, or on the host. What is played is used alike."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ovmse import explore
from ovmse.config import Config, settings
from ovmse.context import Sight
from ovmse.envs import make
from ovmse.envs.protocol import AnyEnvironment, Environment, HostEnvironment, is_host
from ovmse.envs.watched import Fault, Watched
from ovmse.errors import UserError
from ovmse.evaluate import Scores, scores
from ovmse.method import Method
from ovmse.phases import progress_of
from ovmse.rollout import Pick, Rollout, Teams, act, collect, collect_host, episode_keys, start_acting
from ovmse.seeds import Rounds, any_over_seeds, join, over_seeds, slots, split, width
from ovmse.types import View

PLAYING = 2  # folded into a team's key to play: learning splits the same key in two, which folds in 0 and 1


class Player(NamedTuple):
    """Who plays: a team (or two), the key that all its episodes derive from, and how far it is in the online phase."""

    teams: Teams
    key: PRNGKeyArray
    env_steps: Int[Array, ""]


World = Callable[[Rounds, int, float | None], Rounds]
"""(rounds of `Player`, turn, ε) → rounds of `Rollout`: `episodes_per_collect` episodes played by every seed's team.

Other turns are other episodes. Each agent acts at random with probability ε; without ε the method explores.
"""


def make_world(
    config: Config, env: AnyEnvironment, method: Method, say: Callable[[str], None] = lambda text: None
) -> World:
    """The world of an environment; compilation happens at the first call, and once for all uses.

    say: told of every host environment that had to be restarted.
    """
    if is_host(env):
        return _host_world(config, cast(HostEnvironment, env), method, say)
    return _compiled_world(config, cast(Environment, env), method)


def evaluate(config: Config, world: World, teams: Rounds, keys: Rounds) -> Scores:
    """Greedy scores of `config.evaluate_episodes` episodes of every seed, axes [seed, episode]; equal keys give equal
    episodes, whatever number of them is played side by side."""
    # steps of no meaning, on the devices where training has them: else the same program would be compiled twice
    steps = split(np.zeros(slots(config.seeds), np.int32), config.seeds)
    players = [Player(*player) for player in zip(teams, keys, steps, strict=True)]
    turns = range(-(-config.evaluate_episodes // config.episodes_per_collect))
    blocks = [[_scores(played) for played in world(players, turn, 0.0)] for turn in turns]
    return jax.tree.map(
        lambda *x: np.concatenate(x, axis=1)[:, : config.evaluate_episodes], *(join(block) for block in blocks)
    )


_scores = jax.jit(scores)


def _pick(method: Method, epsilon: Float[Array, ""]) -> Pick:
    """How a team acts: as the method explores, or at a given ε where that is not negative."""

    def pick(key: PRNGKeyArray, sight: Sight) -> Array:
        sight = sight._replace(q=method.compose(sight))

        def explores() -> Array:
            return method.explore(key, sight).astype(jnp.int32)

        def at_random() -> Array:
            return explore.epsilon_greedy(key, sight.q, sight.avail, epsilon).astype(jnp.int32)

        return jax.lax.cond(epsilon < 0, explores, at_random)

    return pick


def _compiled_world(config: Config, env: Environment, method: Method) -> World:
    def one(player: Player, turn: Array, epsilon: Array) -> Rollout:
        progress, keys = progress_of(config, player.env_steps), _keys(config, player, turn)
        return collect(env, player.teams, _pick(method, epsilon), keys, any_over_seeds, progress)

    play = over_seeds(one, config.seeds, keep=True)
    return lambda players, turn, epsilon: play(players, jnp.int32(turn), _number(epsilon))


def _keys(config: Config, player: Player, turn: Int[Array, ""]) -> Key[Array, " B"]:
    """One key per episode, by the episode's number."""
    count = config.episodes_per_collect
    base = jax.random.fold_in(player.key, PLAYING)
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(turn * count + jnp.arange(count))


def _number(epsilon: float | None) -> Array:
    return jnp.float32(-1.0 if epsilon is None else epsilon)


def _host_world(config: Config, env: HostEnvironment, method: Method, say: Callable[[str], None]) -> World:
    batch, together = config.episodes_per_collect, width(config.seeds)

    def another() -> HostEnvironment:
        return cast(HostEnvironment, make(config.env, **settings(config.env_settings)))

    envs, restarts = [Watched(another, config.env_seconds) for _ in range(together * batch)], itertools.count(1)

    def mend(i: int, fault: Fault) -> None:
        if (number := next(restarts)) > config.env_restarts:
            raise UserError(
                f"{env.spec.name}: {fault}. It was restarted {config.env_restarts} times before, which is the limit "
                "(--env-restarts)."
            ) from fault
        say(f"{env.spec.name}: {fault}; episode discarded, environment restarted ({number} of {config.env_restarts})")
        envs[i].restart()

    def begin(player: Player, turn: Array) -> tuple[Any, Any, Any]:
        env_keys, team_keys = episode_keys(_keys(config, player, turn))
        return start_acting(player.teams, env.spec, batch), jax.random.key_data(env_keys)[:, -1], team_keys

    def step(x: tuple, t: Array, epsilon: Array) -> Any:
        player, acting, view, keys = x
        progress = progress_of(config, player.env_steps)
        return act(player.teams, env.spec, _pick(method, epsilon), keys, t, acting, view, progress)

    begin_all, step_all = over_seeds(begin, config.seeds, keep=True), over_seeds(step, config.seeds, keep=True)

    def play(players: Rounds, turn: int, epsilon: float | None) -> Rounds:
        return [play_round(player, turn, epsilon) for player in players]

    def play_round(player: Player, turn: int, epsilon: float | None) -> Rollout:
        [(acting, env_seeds, keys)] = begin_all([player], jnp.int32(turn))

        def act_at(t: int, acting: Any, view: View) -> tuple[Any, np.ndarray]:
            by_seed = jax.tree.map(lambda x: x.reshape(together, batch, *x.shape[1:]), view)
            [(acting, action)] = step_all([(player, acting, by_seed, keys)], jnp.int32(t), _number(epsilon))
            return acting, np.asarray(action).reshape(together * batch, -1)

        numbers = np.asarray(env_seeds).astype(np.int64).reshape(-1) % 2**31
        rollout = collect_host(list(envs), act_at, acting, numbers.tolist(), mend)
        return jax.tree.map(lambda x: x.reshape(together, batch, *x.shape[1:]), rollout)

    return play
