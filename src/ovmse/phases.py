"""The compiled part of each phase, for one seed: learn offline, hand over, learn online.

Everything here is pure; progress, evaluation, files and interrupts live in `ovmse.train`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse import health
from ovmse import learner as learning
from ovmse import replay as replays
from ovmse.config import Config
from ovmse.health import Halt
from ovmse.learner import Learner, Lesson, Metrics
from ovmse.method import Method
from ovmse.networks import Team
from ovmse.replay import Replay
from ovmse.rollout import Rollout
from ovmse.seeds import batched
from ovmse.types import EnvSpec
from ovmse.updates import Data, lengths_within, update

FRESH = 2**30  # folded into a seed's key for networks that are new at the handover


class Offline(NamedTuple):
    """What the offline phase changes."""

    learner: Learner
    key: PRNGKeyArray


class Online(NamedTuple):
    """What the online phase changes, and the team frozen at the handover.

    offline: that team, for the memory, the monitor, the guard and guided methods; None without an offline phase.
    data_memory: what is remembered beside each row of the dataset (None where it is not mixed in).
    priority: how often each episode of the dataset is drawn (None: all alike).
    """

    learner: Learner
    offline: Team | None
    replay: Replay
    data_memory: Float[Array, " R"] | None
    priority: Float[Array, " E"] | None
    key: PRNGKeyArray
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]


class Tally(NamedTuple):
    """Sums of metrics over so many updates, and what put an end to them, if anything."""

    total: Metrics
    updates: Int[Array, ""]
    halt: Halt


Learned = tuple[Learner, Tally, Float[Array, " E"] | None]
"""What an online update changes: the last one is the dataset's priorities."""


def no_tally() -> Tally:
    """Nothing summed yet."""
    return Tally(Metrics(learning.no_losses(jnp.float32), jnp.zeros(())), jnp.zeros((), jnp.int32), health.no_halt())


def add(config: Config, tally: Tally, metrics: Metrics, team: Team, key: PRNGKeyArray) -> Tally:
    """One more update's metrics; those of one that is not done, for what the team would be, count for nothing."""
    halt = health.after_update(tally.halt, metrics, team, config.loss_limit, key)
    total = jax.tree.map(jnp.add, tally.total, metrics)
    return Tally(health.unless_halted(halt, total, tally.total), tally.updates + health.is_well(halt), halt)


def learn_offline(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: Offline,
    data: Replay,
    updates: Int[Array, ""],
    choices: list[int],
    tally: Tally | None = None,
) -> tuple[Offline, Tally]:
    """Some gradient updates on the dataset, whose episodes are computed at the lengths in `choices`.

    tally: what is summed already; how the updates are cut into calls changes no bit of the sums.
    """
    lesson = offline_lesson(method)

    def one(_, carry: tuple[Offline, Tally]) -> tuple[Offline, Tally]:
        (learner, key), tally = carry
        next_key, k_update = jax.random.split(key)
        new, metrics, _ = update(config, spec, lesson, learner, data, None, k_update, choices)
        tally = add(config, tally, metrics, new.team, k_update)
        return health.unless_halted(tally.halt, Offline(new, next_key), Offline(learner, key)), tally

    return jax.lax.fori_loop(0, updates, one, (state, tally or no_tally()))


def remember_data(method: Method, spec: EnvSpec, team: Team, data: Replay) -> Float[Array, " R"]:
    """What a team remembers beside each row of the dataset, computed once at the handover."""
    assert method.memory is not None
    remember = method.memory
    return replays.beside(data, data.memory, lambda episode: remember(team, episode), spec.episode_limit)


def replay_rows(config: Config, spec: EnvSpec) -> int:
    """Rows of a seed's replay; no more than all that it plays, its last round included, in episodes of a single step.

    On an accelerator seeds play on until the slowest is done, so that there is no such bound.
    """
    rows = replays.size_of(spec, config.replay_env_steps)
    if batched():
        return rows
    played = config.online_env_steps + config.episodes_per_collect * spec.episode_limit
    return min(rows, 2 * played + spec.episode_limit + 1)


def handover(config: Config, spec: EnvSpec, method: Method, state: Offline, data: Replay | None) -> Online:
    """From the offline phase to the online one: θ_off ← θ, θ̄ ← θ, a fresh optimiser, and an empty replay.

    A method with `fresh` networks starts the online phase from new ones, and θ_off stays beside them.
    """
    team, key = state.learner.team, state.key
    remembers = method.memory is not None and method.offline_loss is not None
    if method.fresh and method.offline_loss is not None:
        learner = learning.init(config.learner, spec, jax.random.fold_in(key, FRESH), method.parts_online)
    else:
        learner = learning.restart(config.learner, team)
    mixes = data is not None and method.mixes_data
    return Online(
        learner=learner._replace(updates=state.learner.updates),
        offline=None if method.offline_loss is None else team,
        replay=replays.empty(spec, replay_rows(config, spec)),
        data_memory=remember_data(method, spec, team, data) if remembers and data and mixes else None,
        priority=jnp.ones(data.index.start.shape[0]) if method.priority and data and mixes else None,
        key=key,
        env_steps=jnp.zeros((), jnp.int32),
        episodes=jnp.zeros((), jnp.int32),
    )


def learn_online(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: Online,
    played: Rollout,
    data: Replay | None,
    tally: Tally | None = None,
) -> tuple[Online, Tally]:
    """Store new episodes with what is remembered of them, then do the updates that they are worth.

    tally: what is summed already.
    """
    assert method.online_target is not None
    episodes = played.episodes
    tally = tally or no_tally()
    tally = tally._replace(halt=health.after_play(tally.halt, episodes))
    if state.offline is not None and method.memory is not None:
        offline, remember = state.offline, method.memory
        memory = jax.vmap(lambda episode: remember(offline, episode))(episodes)
    else:
        memory = jnp.zeros(episodes.reward.shape)
    replay = replays.insert_all(state.replay, episodes, memory, played.won)
    env_steps = state.env_steps + episodes.valid.sum(dtype=jnp.int32)
    key, k_updates = jax.random.split(state.key)
    state = state._replace(replay=replay, key=key, env_steps=env_steps, episodes=state.episodes + len(episodes.valid))
    progress, lengths = progress_of(config, env_steps), lengths_within(spec.episode_limit)
    lesson = online_lesson(method, progress)
    keys = jax.random.split(k_updates, config.updates_per_collect)

    def one(i: Array, carry: Learned) -> Learned:
        learner, tally, priority = carry
        mixed = mixed_in(method, state, data, progress, priority)
        new, metrics, renewed = update(config, spec, lesson, learner, replay, mixed, keys[i], lengths)
        tally = add(config, tally, metrics, new.team, keys[i])
        learner, priority = health.unless_halted(tally.halt, (new, renewed), (learner, priority))
        return learner, tally, priority

    updates = jnp.int32(config.updates_per_collect)
    if method.warm_up > 0:
        updates = jnp.where(progress < method.warm_up, 0, updates)
    learner, tally, priority = jax.lax.fori_loop(0, updates, one, (state.learner, tally, state.priority))
    return state._replace(learner=learner, priority=priority), tally


def offline_lesson(method: Method) -> Lesson:
    """What a method makes of a batch in the offline phase."""
    assert method.offline_loss is not None
    return Lesson(method.offline_loss, lambda td, memory: td, method.next_value)


def online_lesson(method: Method, progress: Float[Array, ""]) -> Lesson:
    """What a method makes of a batch at this point of the online phase."""
    target = method.online_target
    assert target is not None
    return Lesson(
        method.online_loss, lambda td, m: target(td, m, progress), method.next_value, method.priority, progress
    )


def mixed_in(
    method: Method, state: Online, data: Replay | None, progress: Float[Array, ""], priority: Float[Array, " E"] | None
) -> Data | None:
    """The dataset as batches draw from it at this point of the online phase; None where a method mixes none in."""
    if data is None or not method.mixes_data:
        return None
    stored = data if state.data_memory is None else data._replace(memory=state.data_memory)
    return Data(stored, method.offline_share(progress), priority)


def progress_of(config: Config, env_steps: Int[Array, ""]) -> Float[Array, ""]:
    """The spent share of the online budget, in [0, 1]."""
    return jnp.minimum(1.0, env_steps / config.online_env_steps)
