"""How seeds act in each kind of environment: compiled together with learning, or on the host around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ovmse import explore, phases
from ovmse.config import Config, settings
from ovmse.envs import make
from ovmse.envs.protocol import AnyEnvironment, HostEnvironment, is_host
from ovmse.evaluate import Scores, evaluate, recorded, scores
from ovmse.method import Method
from ovmse.phases import Online, Tally
from ovmse.replay import Replay
from ovmse.rollout import Rollout, act, collect_host, episode_keys, start_acting
from ovmse.seeds import each_seed, over_seeds, slots


@dataclass(frozen=True)
class World:
    """The three things that need the environment, for all seeds at once (leading axis: seed).

    evaluate: (teams' agents, keys) → `Scores` with axes [seed, episode].
    finetune: (online states, dataset, until env steps) → (states, tallies).
    record: (teams' agents, keys, ε) → episodes in which each agent acts at random with probability ε.
    """

    evaluate: Callable[[PyTree, PyTree], Scores]
    finetune: Callable[[Online, Replay | None, int], tuple[Online, Tally]]
    record: Callable[[PyTree, PyTree, float], Rollout]


def make_world(config: Config, env: AnyEnvironment, method: Method) -> World:
    """The world of an environment; compilation happens at the first call."""
    return (
        _host_world(config, cast(HostEnvironment, env), method)
        if is_host(env)
        else _compiled_world(config, env, method)
    )


def _compiled_world(config: Config, env: Any, method: Method) -> World:
    play = each_seed(lambda x: evaluate(env, x[0], x[1], config.evaluate_episodes), config.seeds)
    learn = over_seeds(
        lambda state, data, until: phases.finetune(config, env, method, state, data, until), config.seeds
    )
    watch = each_seed(lambda x, epsilon: recorded(env, x[0], x[1], epsilon), config.seeds)
    return World(
        evaluate=lambda agents, keys: play((agents, keys)),
        finetune=lambda states, data, until: learn(states, data, jnp.int32(until)),
        record=lambda agents, keys, epsilon: watch((agents, keys), jnp.float32(epsilon)),
    )


def _host_world(config: Config, env: HostEnvironment, method: Method) -> World:
    seeds, batch, spec = slots(config.seeds), config.episodes_per_collect, env.spec
    envs = [cast(HostEnvironment, make(config.env, **settings(config.env_settings))) for _ in range(seeds * batch)]

    def acting_in(pick_at: Callable[..., Any]) -> Callable[..., Any]:
        def one(x: tuple, t: Any) -> Any:
            agent, acting, obs, avail, keys, progress = x
            return act(agent, pick_at(progress), keys, t, acting, obs, avail)

        return each_seed(one, config.seeds)

    explore_step = acting_in(lambda progress: lambda k, q, avail: method.explore(k, q, avail, progress))
    random_step = acting_in(lambda epsilon: lambda k, q, avail: explore.epsilon_greedy(k, q, avail, epsilon))
    greedy_step = acting_in(lambda progress: lambda k, q, avail: explore.greedy(q, avail))
    begin = each_seed(lambda agent: start_acting(agent, spec, batch), config.seeds)
    split = jax.jit(jax.vmap(lambda k: jax.random.split(k)))
    shared_seeds = jax.jit(jax.vmap(lambda k: episode_keys(jax.random.split(k, batch))))
    learn = over_seeds(
        lambda x, data: _keep(x[1], phases.learn_online(config, spec, method, x[0], x[1], data)), config.seeds
    )

    def play(step: Callable[..., Any], agents: PyTree, keys: PyTree, progress: Any) -> Rollout:
        env_keys, team_keys = shared_seeds(keys)
        env_seeds = np.asarray(jax.random.key_data(env_keys))[..., -1].astype(np.int64) % 2**31

        def act_at(t: int, acting: Any, obs: np.ndarray, avail: np.ndarray) -> tuple[Any, np.ndarray]:
            by_seed = (x.reshape(seeds, batch, *x.shape[1:]) for x in (obs, avail))
            acting, action = step((agents, acting, *by_seed, team_keys, progress), t)
            return acting, np.asarray(action).reshape(seeds * batch, -1)

        rollout = collect_host(envs, act_at, begin(agents), [int(s) for s in env_seeds.reshape(-1)])
        return jax.tree.map(lambda x: x.reshape(seeds, batch, *x.shape[1:]), rollout)

    def evaluate_host(agents: PyTree, keys: PyTree) -> Scores:
        blocks = []
        for block in range(-(-config.evaluate_episodes // batch)):
            block_keys = jax.vmap(lambda k: jax.random.fold_in(k, block))(keys)  # noqa: B023
            blocks.append(scores(play(greedy_step, agents, block_keys, np.zeros(seeds, np.float32))))
        return jax.tree.map(lambda *x: np.concatenate(x, axis=1)[:, : config.evaluate_episodes], *blocks)

    def finetune_host(states: Online, data: Replay | None, until: int) -> tuple[Online, Tally]:
        tally = None
        while tally is None or int(states.env_steps[: config.seeds].min()) < until:
            both = split(states.key)
            progress = phases.progress_of(config, states.env_steps)
            played = play(explore_step, states.learner.team.agent, both[:, 1], progress)
            (states, _), new = learn((states._replace(key=both[:, 0]), jax.device_put(played)), data)
            tally = new if tally is None else jax.tree.map(jnp.add, tally, new)
        return states, tally

    def record_host(agents: PyTree, keys: PyTree, epsilon: float) -> Rollout:
        return play(random_step, agents, keys, np.full(seeds, epsilon, np.float32))

    return World(evaluate_host, finetune_host, record_host)


def _keep(played: Rollout, result: tuple[Online, Tally]) -> tuple[tuple[Online, Rollout], Tally]:
    return (result[0], played), result[1]
