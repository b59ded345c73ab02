"""The compiled part of a batch round: the online phase on logs that a deployed team brought back, for one seed.

The logs lie one after the other in one replay that is only read: first the episodes learned from before, then the new
ones, in the place of what a run would have played.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ovmse.config import Config
from ovmse.core.networks import Team
from ovmse.core.types import EnvSpec
from ovmse.learning import finiteness, replay as replays
from ovmse.learning.batches import Data
from ovmse.learning.learner import Objective
from ovmse.learning.phases import Phase, SeedState, add, handover, mixed_in, online_objective, remember_data
from ovmse.learning.replay import Replay
from ovmse.learning.update import update
from ovmse.methods.method import Method


class Logs(NamedTuple):
    """The logs of a round as batches draw from them: the earlier episodes (None: there are none) and the new ones."""

    earlier: Replay | None
    new: Replay


def logs_of(state: SeedState, data: Replay, earlier: int) -> Logs:
    """The logs of a round, with what is remembered beside them; the first so many episodes were learned from before."""
    if state.data_offline_value is not None:
        data = data._replace(offline_value=state.data_offline_value)
    before = replays.picked(data, slice(earlier)) if earlier else None
    return Logs(before, replays.picked(data, slice(earlier, None)))


def handover_to_logs(
    config: Config, spec: EnvSpec, method: Method, state: SeedState, offline_team: Team, data: Replay, earlier: int
) -> SeedState:
    """From the deployed team to a round: as at a handover, but nothing will be played, and the memory beside all logs
    is that of `offline_team`, which need not be the team that goes on."""
    state = handover(config, spec, method, state, None)
    return state._replace(
        phase=Phase.ROUND,
        offline_team=offline_team,
        replay=None,
        data_offline_value=None if method.memory is None else remember_data(method, spec, offline_team, data),
        priority=jnp.ones(earlier) if earlier and method.mixes_data and method.priority is not None else None,
    )


def learn_from_logs(
    config: Config,
    spec: EnvSpec,
    method: Method,
    state: SeedState,
    data: Replay,
    updates: Int[Array, ""],
    lengths: list[int],
    earlier: int,
) -> SeedState:
    """Some gradient updates of a round: the online objective on new episodes, a share of them earlier ones instead.

    How the updates are cut into calls changes no bit of the state.
    """
    logs = logs_of(state, data, earlier)

    def one(i: Array, state: SeedState) -> SeedState:
        next_key, k_update = jax.random.split(state.key)
        objective, mixed = batches_of(config, method, state, logs)
        new, metrics, renewed = update(config, spec, objective, state.learner, logs.new, mixed, k_update, lengths)
        sums = add(config, state.sums, metrics, new.team, k_update)
        kept = state.learner, state.priority, state.key
        learner, priority, key = finiteness.unless_halted(sums.halt, (new, renewed, next_key), kept)
        return state._replace(learner=learner, priority=priority, key=key, sums=sums)

    return jax.lax.fori_loop(0, updates, one, state)


def batches_of(config: Config, method: Method, state: SeedState, logs: Logs) -> tuple[Objective, Data | None]:
    """What a method makes of a batch at this point of a round, and the earlier episodes as it draws from them."""
    progress = round_progress(config, state)
    return round_objective(config, method, state), mixed_in(method, state, logs.earlier, progress, state.priority)


def round_objective(config: Config, method: Method, state: SeedState) -> Objective:
    """What a method makes of a batch at this point of a round: its online target, by the loss that the round is to use.

    The offline loss keeps its pessimism, for logs so narrow that what is overestimated in them is in none of them.
    """
    assert config.round is not None
    objective = online_objective(method, round_progress(config, state))
    if config.round.loss == "online":
        return objective
    assert method.offline_loss is not None
    return objective._replace(loss=method.offline_loss)


def round_progress(config: Config, state: SeedState) -> Float[Array, ""]:
    """The share of a round's updates that is spent, in [0, 1]: its schedules run over these."""
    assert config.round is not None
    return jnp.minimum(1.0, state.learner.updates / config.round.updates)
