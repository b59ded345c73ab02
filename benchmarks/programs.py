"""The library's own programs, set up to be timed: the one place where the benchmark touches the compiled phases.

Each function returns a call that does so many units of work on a state that it keeps, as a run does chunk by chunk.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.floors import stored_bytes
from ovmse.config import Config
from ovmse.core.action_selection import greedy
from ovmse.core.types import EnvSpec, Episode
from ovmse.data.dataset import Dataset
from ovmse.envs.protocol import Environment
from ovmse.learning import learner, phases, replay as replays
from ovmse.learning.lengths import group_size, needed_steps, offline_lengths, online_lengths
from ovmse.learning.parallel import SeedBatches, any_over_seeds, over_seeds, padded_seeds, shared, split
from ovmse.learning.play import Actor, make_collect
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Rollout, Teams, collect
from ovmse.methods.method import Method
from ovmse.methods.signatures import ActionInputs
from ovmse.training.run import teams_of

STORED = 16  # different episodes that rounds of online updates store in turn

Call = Callable[[int], Any]
"""(units of work) → what to wait for."""


def config_for(spec: EnvSpec, *, batch: int, seeds: int, **changes: Any) -> Config:
    """A configuration of the default networks; what evaluation and budgets say plays no part."""
    return Config(env=spec.name, batch_episodes=batch, seeds=seeds, **changes)


def data_of(dataset: Dataset, seeds: int) -> Replay:
    """A dataset as so many seeds read it."""
    return shared(replays.from_flat(dataset.flat, dataset.spec), seeds)


def kept(function: Callable[..., tuple[Any, Any]], seeds: int, states: SeedBatches) -> Callable[..., Any]:
    """``function(state, *same) → (state, out)`` of all seeds, as a call that keeps the states and gives the outs."""
    program, held = over_seeds(function, seeds), [states]

    def call(*same: Any) -> Any:
        done = program(held[0], *same)
        held[0] = [state for state, _ in done]
        return [out for _, out in done]

    return call


def fresh_offline(config: Config, spec: EnvSpec) -> SeedBatches:
    """The first state of the offline phase, for all seeds.

    It comes from the same mesh of devices as the states that follow, so that no program is compiled for two layouts.
    """

    def one(key: jax.Array) -> phases.SeedState:
        k_init, k_learn = jax.random.split(key)
        return phases.begin(learner.init(config.learner, spec, k_init), k_learn)

    keys = jax.random.split(jax.random.key(config.seed), padded_seeds(config.seeds))
    return over_seeds(one, config.seeds, keep=True)(split(keys, config.seeds))


def offline_updates(config: Config, spec: EnvSpec, method: Method, data: Replay) -> Call:
    """Updates of the offline phase, each on a batch of the dataset."""

    lengths = offline_lengths(config, spec, method, data)

    def learn(state: Any, data: Replay, updates: jax.Array) -> tuple[Any, Any]:
        done = phases.learn_offline(config, spec, method, without_sums(state), data, updates, lengths)
        return done, done.sums

    program = kept(learn, config.seeds, fresh_offline(config, spec))
    return lambda updates: program(data, jnp.int32(updates))


def read_episodes(data: Replay, count: int, steps: int) -> Episode:
    """The dataset's first episodes [B, …], padded to so many steps."""
    return replays.read_all(data, jnp.arange(count), steps)[0]


def padding(config: Config, spec: EnvSpec, method: Method, data: Replay, draws: int = 1000) -> float:
    """Rows at which a batch of the dataset is computed, over its real ones, final rows among them, on average."""
    choices = np.asarray(offline_lengths(config, spec, method, data))
    drawn = np.random.default_rng(0).choice(np.asarray(data.index.length), (draws, config.batch_episodes))
    computed = choices[np.searchsorted(choices, needed_steps(config, spec, method, drawn))] + 1
    return float(group_size(config.batch_episodes, spec.n_agents) * computed.sum() / (drawn + 1).sum())


def online_updates(config: Config, spec: EnvSpec, method: Method, data: Replay, replay_episodes: int) -> Call:
    """Rounds of `config.updates_per_collect` updates of the online phase, on a replay that the dataset's first
    episodes fill.

    Every round first stores one episode, as a round begins by storing what was played.
    """
    mixed = data if method.mixes_data else None
    lengths = online_lengths(config, spec, method, data)
    begin = over_seeds(
        lambda state, mixed, data: fill(
            spec, method, phases.handover(config, spec, method, state, mixed), data, replay_episodes
        ),
        config.seeds,
    )

    def learn(state: Any, played: Rollout, mixed: Replay | None) -> tuple[Any, Any]:
        done = phases.learn_online(config, spec, method, without_sums(state), played, mixed, lengths)
        return done, done.sums

    program = kept(learn, config.seeds, begin(fresh_offline(config, spec), mixed, data))
    episodes = read_episodes(data, STORED, spec.episode_limit)
    played = [
        Rollout(jax.tree.map(lambda x: x[i : i + 1], episodes), jnp.zeros((1,), bool))  # noqa: B023
        for i in range(STORED)
    ]
    turn = itertools.cycle(played)

    def call(rounds: int) -> Any:
        sums = None
        for _ in range(rounds):
            sums = program(next(turn), mixed)
        return sums

    return call


def fill(spec: EnvSpec, method: Method, state: phases.SeedState, data: Replay, episodes: int) -> phases.SeedState:
    """One seed's state with the dataset's first episodes in its replay, remembered by its frozen team."""
    read = read_episodes(data, episodes, spec.episode_limit)
    offline_value = jnp.zeros(read.reward.shape)
    if state.offline_team is not None and method.memory is not None:
        team, remember = state.offline_team, method.memory
        offline_value = jax.lax.map(lambda episode: remember(team, episode), read)
    won = jnp.zeros((episodes,), bool)
    assert state.replay is not None
    return state._replace(replay=replays.insert_all(state.replay, read, offline_value, won))


def without_sums(state: phases.SeedState) -> phases.SeedState:
    """The state with nothing summed yet."""
    return state._replace(sums=phases.zero_sums())


class Progress(NamedTuple):
    """What was done so far: environment steps played, and real steps that updates learnt from."""

    played: float
    trained: float


def online_rounds(config: Config, env: Environment, method: Method) -> tuple[Call, Callable[[], Progress]]:
    """Rounds of play and learning of one seed as the online phase does them without a dataset, from a full replay on.

    The second function counts what was done since the replay was filled, each episode, played or drawn, as long as
    those that filled it on average, so that a few lucky episodes are no noise. It raises `ValueError` where learning
    came to a halt.
    """
    spec, lengths = env.spec, online_lengths(config, env.spec, method)

    def learn_once(config: Config, method: Method, state: phases.SeedState, played: Rollout) -> phases.SeedState:
        return phases.learn_online(config, spec, method, state, played, None, lengths)

    play = make_collect(config, env, method)
    store = over_seeds(lambda _, *rest: phases.store(*rest), config.seeds, settings=(config, method))
    learn = over_seeds(learn_once, config.seeds, settings=(config, method))
    begin = over_seeds(lambda state: phases.handover(config, spec, method, state, None), config.seeds)
    held, turns = [begin(fresh_offline(config, spec))], itertools.count()

    def rounds(count: int, then: Callable[..., SeedBatches] = learn) -> Any:
        for _ in range(count):
            actors = [Actor(teams_of(method, x), x.key, x.env_steps, x.episodes) for x in held[0]]
            held[0] = then(held[0], beside=play(actors, next(turns), None))
        return held[0][0].learner

    def counts() -> tuple[int, ...]:
        [state] = held[0]
        if state.sums.halt.cause.any():
            raise ValueError(f"learning on {spec.name} came to a halt.")
        return tuple(int(x.sum()) for x in (state.env_steps, state.episodes, state.learner.updates))

    rounds(1, store)
    while counts()[0] < config.replay_env_steps:
        rounds(1, store)
    steps, filled, _ = counts()

    def done() -> Progress:
        _, episodes, updates = counts()
        return Progress((episodes - filled) * steps / filled, updates * config.batch_episodes * steps / filled)

    return rounds, done


def replay_steps(lengths: np.ndarray, episodes: int) -> int:
    """A replay's size, in steps, that holds the first `episodes` episodes of those lengths twice."""
    return int(2 * lengths[:episodes].sum())


def plays(
    config: Config, env: Environment, method: Method | None, episodes: int, rounds: int
) -> Callable[[int], SeedBatches]:
    """SeedBatches of `episodes` episodes side by side, with an untrained team of every seed; a unit of work is `rounds`
    rounds. The team explores as the method does at its start, or plays greedily without one.

    What the call gives is rollouts, axes [seed, round, episode, …], one for each group of seeds.
    """

    def pick(key: jax.Array, inputs: ActionInputs) -> jax.Array:
        return greedy(inputs.q, inputs.avail) if method is None else method.explore(key, inputs)

    def one(state: phases.SeedState, keys: jax.Array) -> Rollout:
        teams = Teams(state.learner.team)
        return jax.lax.map(lambda k: collect(env, teams, pick, k, any_over_seeds), keys)

    states, program = fresh_offline(config, env.spec), over_seeds(one, config.seeds, keep=True)
    keys = jax.random.split(jax.random.key(1), (rounds, episodes))

    def call(units: int) -> SeedBatches:
        played: SeedBatches = []
        for _ in range(units):
            played = program(states, keys)
        return played

    return call


def of_one_unit(config: Config) -> Config:
    """The configuration with a recurrent layer that costs next to nothing."""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, hidden=1))


def held(spec: EnvSpec, data: Replay | None, state: Any) -> dict[str, dict[str, float]]:
    """Bytes of a run's dataset and of one seed's replay, and those of the real steps in them, by name."""

    def is_replay(x: Any) -> bool:
        return isinstance(x, Replay)

    def described(replay: Replay) -> dict[str, float]:
        index = jax.tree.map(np.asarray, replay.index)
        there = index.length[np.arange(index.oldest, index.written) % len(index.length)]
        size = sum(x.nbytes for x in jax.tree.leaves(replay))
        return {"bytes": float(size), "step_bytes": stored_bytes(spec, float(there.sum())), "steps": int(there.sum())}

    found = {} if data is None else {"dataset": data}
    replay = next((x for x in jax.tree.leaves(state, is_leaf=is_replay) if is_replay(x)), None)
    if replay is not None:
        found["replay"] = jax.tree.map(lambda x: x[0], replay)
    return {name: described(replay) for name, replay in found.items()}
