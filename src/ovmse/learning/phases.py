"""The compiled part of each phase, for one seed: learn offline, hand over, learn online.

Everything here is pure; progress, evaluation, files and interrupts live in `ovmse.training`.
"""

from enum import StrEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse.config import Config
from ovmse.core.networks import Team
from ovmse.core.schedules import is_zero
from ovmse.core.types import EnvSpec
from ovmse.learning import finiteness, learner as learning, replay as replays
from ovmse.learning.batches import Data
from ovmse.learning.finiteness import Halt
from ovmse.learning.learner import Learner, Metrics, Objective
from ovmse.learning.parallel import batched, over_cores
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Rollout
from ovmse.learning.update import update
from ovmse.methods.method import Method
from ovmse.methods.signatures import ActsWithinReturn

REINITIALISED = 2**30  # folded into a seed's key for networks that are new at the handover


@jax.tree_util.register_static  # no array: a compiled program serves one phase
class Phase(StrEnum):
    """The phases of a run; a round is the online phase on logs that were brought back (`ovmse.learning.rounds`)."""

    OFFLINE = "offline"
    ONLINE = "online"
    ROUND = "round"


class MetricSums(NamedTuple):
    """Sums of metrics over so many updates, and what put an end to them, if anything."""

    total: Metrics
    updates: Int[Array, ""]
    halt: Halt


class SeedState(NamedTuple):
    """Everything that one seed carries on.

    phase: the phase that it is in; what follows `episodes` is there after the handover alone.
    learner: the networks and the optimiser. key: the random state. sums: the metrics since the last evaluation.
    env_steps, episodes: what was played online so far.
    offline_team: the team frozen at the handover, for the memory, the monitor, the guard and the methods that act with
        it; None without an offline phase.
    replay: what was played (None in a round).
    data_offline_value: what is remembered beside each row of the dataset (None where it is not learned from).
    priority: how often each episode of the dataset is drawn (None: all alike).
    """

    phase: Phase
    learner: Learner
    key: PRNGKeyArray
    sums: MetricSums
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]
    offline_team: Team | None = None
    replay: Replay | None = None
    data_offline_value: Float[Array, " R"] | None = None
    priority: Float[Array, " E"] | None = None


def zero_sums() -> MetricSums:
    """Nothing summed yet."""
    metrics = Metrics(learning.no_losses(jnp.float32), jnp.zeros(()))
    return MetricSums(metrics, jnp.zeros((), jnp.int32), finiteness.no_halt())


def begin(learner: Learner, key: PRNGKeyArray) -> SeedState:
    """A seed's state before its first update, in the offline phase."""
    return SeedState(Phase.OFFLINE, learner, key, zero_sums(), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def add(config: Config, sums: MetricSums, metrics: Metrics, team: Team, key: PRNGKeyArray) -> MetricSums:
    """One more update's metrics; those of one that is not done, for what the team would be, count for nothing."""
    halt = finiteness.after_update(sums.halt, metrics, team, config.loss_limit, key)
    total = jax.tree.map(jnp.add, sums.total, metrics)
    return MetricSums(finiteness.unless_halted(halt, total, sums.total), sums.updates + finiteness.is_well(halt), halt)


def learn_offline(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: SeedState,
    data: Replay,
    updates: Int[Array, ""],
    lengths: list[int],
) -> SeedState:
    """Some gradient updates on the dataset, whose episodes are computed at one of the `lengths` each.

    How the updates are cut into calls changes no bit of the state.
    """
    objective = offline_objective(method)

    def one(i: Array, state: SeedState) -> SeedState:
        next_key, k_update = jax.random.split(state.key)
        new, metrics, _ = update(config, spec, objective, state.learner, data, None, k_update, lengths)
        sums = add(config, state.sums, metrics, new.team, k_update)
        learner, key = finiteness.unless_halted(sums.halt, (new, next_key), (state.learner, state.key))
        return state._replace(learner=learner, key=key, sums=sums)

    return jax.lax.fori_loop(0, updates, one, state)


def key_after(key: PRNGKeyArray, updates: Int[Array, ""]) -> PRNGKeyArray:
    """The random state that so many offline updates leave: each splits it once (see `learn_offline`)."""
    return jax.lax.fori_loop(0, updates, lambda i, key: jax.random.split(key)[0], key)


def remember_data(method: Method, spec: EnvSpec, team: Team, data: Replay) -> Float[Array, " R"]:
    """What a team remembers beside each row of the dataset, computed once at the handover."""
    assert method.memory is not None
    remember = method.memory
    return replays.beside(data, data.offline_value, lambda episode: remember(team, episode), spec.episode_limit)


def replay_rows(config: Config, spec: EnvSpec) -> int:
    """Rows of a seed's replay; no more than all that it plays, its last round included, in episodes of a single step.

    On an accelerator seeds play on until the slowest is done, so that there is no such bound.
    """
    rows = replays.size_of(spec, config.replay_env_steps)
    if batched():
        return rows
    played = config.online_env_steps + config.episodes_per_collect * spec.episode_limit
    return min(rows, 2 * played + spec.episode_limit + 1)


def handover(config: Config, spec: EnvSpec, method: Method, state: SeedState, data: Replay | None) -> SeedState:
    """From the offline phase to the online one: θ_off ← θ, θ̄ ← θ, a fresh optimiser, and an empty replay.

    A method that reinitialises starts the online phase from new networks, and θ_off stays beside them.
    """
    team, pretrained = state.learner.team, method.offline_loss is not None
    if pretrained and method.reinitialise_online:
        k_init = jax.random.fold_in(state.key, REINITIALISED)
        learner = learning.init(config.learner, spec, k_init, method.parts_online)
    else:
        learner = learning.restart(config.learner, team)
    mixed = data if method.mixes_data else None
    remembers = pretrained and method.memory is not None
    return state._replace(
        phase=Phase.ONLINE,
        learner=learner._replace(updates=state.learner.updates),
        offline_team=team if pretrained else None,
        replay=replays.empty(spec, replay_rows(config, spec)),
        data_offline_value=None if mixed is None or not remembers else remember_data(method, spec, team, mixed),
        priority=None if mixed is None or method.priority is None else jnp.ones(mixed.index.start.shape[0]),
    )


def learn_online(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: SeedState,
    played: Rollout,
    data: Replay | None,
    lengths: list[int],
) -> SeedState:
    """Store new episodes with what is remembered of them, then do the updates that they are worth.

    lengths: those at which episodes are computed, the limit among them.
    """
    state = store(method, state, played)
    progress, replay = progress_of(config, state.env_steps), state.replay
    objective = online_objective(method, progress)
    assert replay is not None
    key, k_updates = jax.random.split(state.key)
    keys = jax.random.split(k_updates, config.updates_per_collect)

    def one(i: Array, carry: tuple[Learner, MetricSums, Float[Array, " E"] | None]) -> tuple:
        learner, sums, priority = carry
        mixed = mixed_in(method, state, data, progress, priority)
        new, metrics, renewed = update(config, spec, objective, learner, replay, mixed, keys[i], lengths)
        sums = add(config, sums, metrics, new.team, keys[i])
        learner, priority = finiteness.unless_halted(sums.halt, (new, renewed), (learner, priority))
        return learner, sums, priority

    updates = jnp.int32(config.updates_per_collect)
    if not is_zero(method.warm_up):
        updates = jnp.where(progress < method.warm_up, 0, updates)
    learner, sums, priority = jax.lax.fori_loop(0, updates, one, (state.learner, state.sums, state.priority))
    return state._replace(learner=learner, key=key, sums=sums, priority=priority)


def store(method: Method, state: SeedState, played: Rollout) -> SeedState:
    """The state with new episodes in its replay, and beside them what the offline team makes of their steps."""
    assert state.replay is not None
    episodes = played.episodes
    if state.offline_team is not None and method.memory is not None:
        team, remember = state.offline_team, method.memory
        offline_value = over_cores(jax.vmap(lambda episode: remember(team, episode)), episodes)
    else:
        offline_value = jnp.zeros(episodes.reward.shape)
    return state._replace(
        sums=state.sums._replace(halt=finiteness.after_play(state.sums.halt, episodes)),
        replay=replays.insert_all(state.replay, episodes, offline_value, played.won),
        env_steps=state.env_steps + episodes.valid.sum(dtype=jnp.int32),
        episodes=state.episodes + len(episodes.valid),
    )


def offline_objective(method: Method) -> Objective:
    """What a method makes of a batch in the offline phase."""
    assert method.offline_loss is not None
    return Objective(
        method.offline_loss,
        lambda td_target, offline_value: td_target,
        method.next_value,
        whole_episodes=method.whole_episodes,
    )


def online_objective(method: Method, progress: Float[Array, ""]) -> Objective:
    """What a method makes of a batch at this point of the online phase."""
    regress_onto = method.online_target
    assert regress_onto is not None
    return Objective(
        loss=method.online_loss,
        regress_onto=lambda td_target, offline_value: regress_onto(td_target, offline_value, progress),
        next_value=method.next_value,
        priority=method.priority,
        progress=progress,
        offline_share=method.offline_share(progress),
        within_return=isinstance(regress_onto, ActsWithinReturn) and regress_onto.within_return,
        whole_episodes=method.whole_episodes,
    )


def mixed_in(
    method: Method,
    state: SeedState,
    data: Replay | None,
    progress: Float[Array, ""],
    priority: Float[Array, " E"] | None,
) -> Data | None:
    """The dataset as batches draw from it at this point of the online phase; None where a method mixes none in."""
    if data is None or not method.mixes_data:
        return None
    stored = data if state.data_offline_value is None else data._replace(offline_value=state.data_offline_value)
    return Data(stored, method.offline_share(progress), priority)


def progress_of(config: Config, env_steps: Int[Array, ""]) -> Float[Array, ""]:
    """The share of the schedules' environment steps that is spent, in [0, 1]."""
    return jnp.minimum(1.0, env_steps / config.scheduled_env_steps)
