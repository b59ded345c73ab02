"""The compiled part of each phase, for one seed: learn offline, hand over, learn online.

Everything here is pure; progress, evaluation, files and interrupts live in `ovmse.train`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ovmse import learner as learning
from ovmse import replay as replays
from ovmse.config import Config
from ovmse.learner import Learner, Metrics, Regress
from ovmse.method import Loss, Method
from ovmse.networks import Team
from ovmse.replay import Replay
from ovmse.rollout import Rollout
from ovmse.seeds import batched, max_over_seeds
from ovmse.types import EnvSpec
from ovmse.values import taken_q_tot

REMEMBER_BLOCK = 32  # dataset episodes whose memory is computed at once
LENGTHS = (0.2, 0.3, 0.45, 0.67, 1.0)  # of the limit; each more takes seconds to compile
QUANTILES = (0.5, 0.85, 1.0)  # of a dataset's lengths
GROUP_ROWS = 96  # agents computed at once on a CPU; more than that leave a core's cache

Drawn = tuple[Int[Array, " B"], Int[Array, " B"] | None, Bool[Array, " B"] | None]
"""What a batch consists of: slots of the replay, slots of the dataset, and whether the latter counts."""


class Offline(NamedTuple):
    """What the offline phase changes."""

    learner: Learner
    key: PRNGKeyArray


class Online(NamedTuple):
    """What the online phase changes, and the team frozen at the handover.

    data_memory: what is remembered beside each row of the dataset (None where it is not mixed in).
    """

    learner: Learner
    offline: Team | None
    replay: Replay
    data_memory: Float[Array, " R"] | None
    key: PRNGKeyArray
    env_steps: Int[Array, ""]
    episodes: Int[Array, ""]


class Tally(NamedTuple):
    """Sums of metrics over so many updates."""

    total: Metrics
    updates: Int[Array, ""]


def no_tally() -> Tally:
    """Nothing summed yet."""
    return Tally(Metrics(learning.no_losses(jnp.float32), jnp.zeros(())), jnp.zeros((), jnp.int32))


def add(tally: Tally, metrics: Metrics) -> Tally:
    """One more update's metrics."""
    return Tally(jax.tree.map(jnp.add, tally.total, metrics), tally.updates + 1)


def lengths_within(limit: int) -> list[int]:
    """The few lengths at which episodes of unknown lengths are computed; a group takes the shortest that holds it."""
    return sorted({math.ceil(limit * share) for share in LENGTHS})


def lengths_of(data: Replay) -> list[int]:
    """The few lengths at which a dataset's episodes are computed: half of them need no more than the first."""
    return sorted({math.ceil(x) for x in np.quantile(np.asarray(data.index.length), QUANTILES)})


def group_size(batch: int, n_agents: int) -> int:
    """How many of a batch's episodes are computed at once: all on an accelerator, on a CPU what a core's cache holds.

    The largest divisor of the batch with at most `GROUP_ROWS` agents and a quarter of the batch (more would be computed
    as long as the longest), but not below 4 episodes.
    """
    if batched():
        return batch
    divisors = [d for d in range(min(4, batch), batch + 1) if batch % d == 0]
    return max((d for d in divisors if d * n_agents <= GROUP_ROWS and 4 * d <= batch), default=divisors[0])


def update(
    config: Config,
    spec: EnvSpec,
    loss: Loss,
    regress: Regress,
    learner: Learner,
    replay: Replay,
    data: Replay | None,
    data_share: Float[Array, ""] | float,
    key: PRNGKeyArray,
    choices: list[int],
) -> tuple[Learner, Metrics]:
    """One gradient update on episodes from the replay, a share of them from the dataset instead.

    The gradient is summed over groups of episodes of about one length, each computed at the shortest of the lengths in
    `choices` (ascending) that holds it.
    """
    k_draw, k_data, k_share, k_loss = jax.random.split(key, 4)
    size = config.batch_episodes
    slots = replays.draw(replay.index, k_draw, size)
    lengths = replay.index.length[slots]
    drawn: Drawn = (slots, None, None)
    if data is not None:
        # the share of a batch holds on average, whatever the batch's size
        from_data = (jnp.arange(size) + jax.random.uniform(k_share)) / size < data_share
        data_slots = replays.draw(data.index, k_data, size)
        lengths = jnp.where(from_data, data.index.length[data_slots], lengths)
        drawn = (slots, data_slots, from_data)
    total = lengths.sum()

    def read(drawn: Drawn, steps: int) -> PyTree:
        slots, data_slots, from_data = drawn
        here = replays.read_all(replay, slots, steps)
        if data is None or data_slots is None:
            return here
        there = replays.read_all(data, data_slots, steps)
        return jax.vmap(lambda own, a, b: jax.tree.map(lambda x, y: jnp.where(own, x, y), a, b))(from_data, there, here)

    def part(lengths: Int[Array, " G"], drawn: Drawn, key: PRNGKeyArray) -> tuple[Team, learning.Losses]:
        def at(steps: int) -> Callable[[], tuple[Team, learning.Losses]]:
            def compute() -> tuple[Team, learning.Losses]:
                episodes, memory = read(drawn, steps)
                return learning.gradient(config.learner, loss, regress, learner, episodes, memory, key, total)

            return compute

        which = jnp.searchsorted(jnp.asarray(choices), max_over_seeds(lengths.max()))
        return jax.lax.switch(which, [at(steps) for steps in choices])

    order = jnp.argsort(lengths)
    group = group_size(size, spec.n_agents)
    batch = jax.tree.map(lambda x: x[order].reshape(-1, group), (lengths, drawn))
    parts = (*batch, jax.random.split(k_loss, size // group))
    no_gradient = jax.tree.map(jnp.zeros_like, learner.team)
    nothing = no_gradient, learning.no_losses(jax.tree.leaves(no_gradient)[0].dtype)
    gradients, losses = sum_over(part, parts, nothing)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
    return learning.apply(config.learner, learner, gradients), Metrics(losses, norm)


def sum_over(function: Callable[..., PyTree], parts: tuple[PyTree, ...], nothing: PyTree) -> PyTree:
    """`nothing` plus a function's results over the leading axis of its arguments."""

    def one(total: PyTree, part: tuple[PyTree, ...]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(one, nothing, parts)[0]


def learn_offline(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: Offline,
    data: Replay,
    updates: Int[Array, ""],
    choices: list[int],
) -> tuple[Offline, Tally]:
    """Some gradient updates on the dataset, whose episodes are computed at the lengths in `choices`."""
    assert method.offline_loss is not None
    loss = method.offline_loss

    def one(_, carry: tuple[Offline, Tally]) -> tuple[Offline, Tally]:
        (learner, key), tally = carry
        key, k_update = jax.random.split(key)
        learner, metrics = update(
            config, spec, loss, lambda td, memory: td, learner, data, None, 0.0, k_update, choices
        )
        return Offline(learner, key), add(tally, metrics)

    return jax.lax.fori_loop(0, updates, one, (state, no_tally()))


def remember_data(method: Method, spec: EnvSpec, team: Team, data: Replay) -> Float[Array, " R"]:
    """What a team remembers beside each row of the dataset, computed once at the handover."""
    assert method.memory is not None
    remember, episodes = method.memory, data.index.start.shape[0]

    def block(memory: Float[Array, " R"], first: Int[Array, ""]) -> tuple[Float[Array, " R"], None]:
        slots = jnp.minimum(first + jnp.arange(REMEMBER_BLOCK), episodes - 1)
        read = replays.read_all(data, slots, spec.episode_limit)[0]
        values = jax.vmap(lambda episode: remember(team, episode))(read)

        def write(memory: Float[Array, " R"], x: tuple[Array, Array]) -> tuple[Float[Array, " R"], None]:
            # in order of rows: what lies past an episode's end is overwritten by the next
            return jax.lax.dynamic_update_slice_in_dim(memory, x[1], data.index.start[x[0]], axis=0), None

        return jax.lax.scan(write, memory, (slots, values))[0], None

    return jax.lax.scan(block, data.memory, jnp.arange(0, episodes, REMEMBER_BLOCK))[0]


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
    """From the offline phase to the online one: θ_off ← θ, θ̄ ← θ, a fresh optimiser, and an empty replay."""
    team = state.learner.team
    remembers = method.memory is not None and method.offline_loss is not None
    return Online(
        learner=learning.restart(config.learner, team)._replace(updates=state.learner.updates),
        offline=team if remembers else None,
        replay=replays.empty(spec, replay_rows(config, spec)),
        data_memory=remember_data(method, spec, team, data) if remembers and data and method.mixes_data else None,
        key=state.key,
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
) -> tuple[Online, Tally]:
    """Store new episodes with what is remembered of them, then do the updates that they are worth."""
    target = method.online_target
    assert target is not None
    episodes = played.episodes
    if state.offline is not None and method.memory is not None:
        offline, remember = state.offline, method.memory
        memory = jax.vmap(lambda episode: remember(offline, episode))(episodes)
    else:
        memory = jnp.zeros(episodes.reward.shape)
    replay = replays.insert_all(state.replay, episodes, memory, played.won)
    env_steps = state.env_steps + episodes.valid.sum(dtype=jnp.int32)
    progress = progress_of(config, env_steps)
    mixed = None
    if data is not None and method.mixes_data:
        mixed = data if state.data_memory is None else data._replace(memory=state.data_memory)
    key, k_updates = jax.random.split(state.key)

    def one(carry: tuple[Learner, Tally], k: PRNGKeyArray) -> tuple[tuple[Learner, Tally], None]:
        learner, tally = carry
        share = method.offline_share(progress)
        learner, metrics = update(
            config,
            spec,
            method.online_loss,
            lambda td, m: target(td, m, progress),
            learner,
            replay,
            mixed,
            share,
            k,
            lengths_within(spec.episode_limit),
        )
        return (learner, add(tally, metrics)), None

    keys = jax.random.split(k_updates, config.updates_per_collect)
    (learner, tally), _ = jax.lax.scan(one, (state.learner, no_tally()), keys)
    state = state._replace(
        learner=learner,
        replay=replay,
        key=key,
        env_steps=env_steps,
        episodes=state.episodes + len(episodes.valid),
    )
    return state, tally


def progress_of(config: Config, env_steps: Int[Array, ""]) -> Float[Array, ""]:
    """The spent share of the online budget, in [0, 1]."""
    return jnp.minimum(1.0, env_steps / config.online_env_steps)


def monitored(team: Team, data: Replay, spec: EnvSpec, episodes: int) -> Float[Array, ""]:
    """The mean Q_tot at the taken actions of the dataset's first `episodes` episodes: the unlearning monitor."""
    slots = jnp.arange(min(episodes, data.index.start.shape[0]))
    read = replays.read_all(data, slots, spec.episode_limit)[0]
    q_tot = jax.vmap(lambda episode: taken_q_tot(team, episode))(read)
    return jnp.where(read.valid, q_tot, 0.0).sum() / read.valid.sum()
