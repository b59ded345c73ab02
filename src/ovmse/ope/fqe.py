"""Fitted Q evaluation for teams (Le, Voloshin, Yue 2019): what a given policy would earn, learned from a log.

An update is a plain TD update, Q_tot(τ, u, s) → r + γ (1 − d) Q̄_tot(τ', π(τ'), s'), in a log in which only the
policy's own joint action is legal: so the greedy next action *is* the policy's. What a frozen policy would do at a
logged history never changes, so it is computed once.

Axes: P policies, F fits, E episodes, R rows of the log, N agents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

from ovmse.config import LearnerConfig
from ovmse.core.action_selection import greedy
from ovmse.core.mixers import QMIX, FreeMixer, mix, weights_at
from ovmse.core.networks import Team, agent_step, chosen, first_hidden, unroll
from ovmse.core.padding import present
from ovmse.core.types import EnvSpec, Episode
from ovmse.learning import finiteness, learner as learning, phases, replay as replays
from ovmse.learning.lengths import offline_lengths
from ovmse.learning.parallel import over_seeds, seeds_per_batch, shared, split
from ovmse.learning.phases import SeedState
from ovmse.learning.replay import Replay, aligned
from ovmse.methods.losses import SquaredError
from ovmse.methods.method import Method
from ovmse.ope.settings import Evaluator, Selecting
from ovmse.system.clock import Clock, Pace
from ovmse.training.display import Display

EVALUATION = Method(offline_loss=SquaredError())
SECONDS_PER_CHUNK = 2.0

Joint = UInt[Array, "R N"]


class Fit(NamedTuple):
    """A fit under way. policy: the joint action of the policy that is evaluated, at every row of the log."""

    state: SeedState
    policy: Joint


class Fitted(NamedTuple):
    """What the fits found. start: the value of each episode's first row; error: the fit's mean squared TD error over
    the last updates."""

    start: Float[np.ndarray, "P F E"]
    error: Float[np.ndarray, "P F"]


def joint_actions(team: Team, data: Replay, steps: int) -> Joint:
    """The greedy legal joint action of a team at every row of a log, given the logged history up to it.

    steps: those of the log's longest episode.
    """

    def act(episode: Episode) -> Int[Array, "T1 N"]:
        return greedy(unroll(team.agent, episode).acting, episode.avail)

    return replays.beside(data, jnp.zeros_like(data.rows.action), act, steps)


def only(data: Replay, policy: Joint, n_actions: int) -> Replay:
    """The log with the policy's joint action as the one legal one."""
    legal: Bool[Array, "R N A"] = policy[..., None] == jnp.arange(n_actions, dtype=policy.dtype)
    return data._replace(rows=data.rows._replace(avail=legal))


def seeing(data: Replay) -> Replay:
    """The log (on the host) with a mark for agents that see nothing but have a choice: with one legal action (`only`)
    they would pass for agents that are out of play."""
    obs, avail = data.rows.obs, data.rows.avail
    blind = present(obs, avail) & ~obs.any(axis=-1)
    if not blind.any():
        return data
    marked: Any = aligned(obs.shape, obs.dtype)
    marked[:] = obs
    marked[blind, 0] = 1.0
    return data._replace(rows=data.rows._replace(obs=marked))


def start_values(team: Team, data: Replay, policy: Joint, spec: EnvSpec) -> Float[Array, " E"]:
    """Q_tot of every episode's first row at the policy's joint action."""
    rows = data.index.start
    hidden = first_hidden(team.agent, spec.n_agents)
    hidden = jnp.broadcast_to(hidden, (len(rows), *hidden.shape))
    nothing = jnp.zeros((len(rows), spec.n_agents, spec.n_actions))
    heads = agent_step(team.agent, hidden, data.rows.obs[rows], nothing)[1]
    there = present(data.rows.obs[rows], data.rows.avail[rows])
    return mix(weights_at(team.mixer, data.rows.state[rows], there), chosen(heads.q, policy[rows].astype(jnp.int32)))


def evaluator(config: LearnerConfig, spec: EnvSpec, mixer: Evaluator, key: PRNGKeyArray) -> learning.Learner:
    """A fresh network that evaluates."""
    fresh = learning.init(config, spec, key)
    if mixer != "free":
        return fresh
    assert isinstance(fresh.team.mixer, QMIX)
    return learning.restart(config, Team(fresh.team.agent, FreeMixer(fresh.team.mixer)))


def evaluate_policies(
    selecting: Selecting, spec: EnvSpec, data: Replay, policies: UInt[np.ndarray, "P R N"], display: Display
) -> Fitted:
    """Fit every policy's value. One compiled program serves all of them; on a CPU each core takes one at a time.

    data: the log on the host (`from_flat`). Fit f starts from the same network and sees the same batches whatever the
    policy, so that differences between policies are not those of luck.
    """
    count, updates = len(policies) * selecting.fits, selecting.updates
    together = seeds_per_batch(count)
    begin, learn, estimate = programs(selecting, spec, data, together)
    log, clock, pace = shared(seeing(data), together), Clock(), Pace(SECONDS_PER_CHUNK, first=20)
    start: list[Any] = []
    errors: list[Any] = []
    display.phase("fitting", 0, count * updates, "updates")
    for first in range(0, count, together):  # the fits that run at the same time; the last ones may do so twice
        some = np.resize(np.arange(first, min(first + together, count)), together)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(selecting.seed), some % selecting.fits)
        [fit], done, error = begin(split((policies[some // selecting.fits], keys), together)), 0, jnp.zeros(())
        while done < updates:
            amount = min(pace.amount(), updates - done)
            with clock.measure("fitting") as chunk:
                [(fit, error)] = jax.block_until_ready(learn([fit], log, jnp.int32(amount)))
                chunk.updates = amount * together
            pace.note(amount, chunk)
            done += amount
            display.advance(first * updates + done * together, clock)
        [values] = estimate([fit], log)
        start.extend(np.where(np.isfinite(error)[:, None], values, np.nan))  # a fit that came to a halt has no values
        errors.extend(np.asarray(error))
    shape = len(policies), selecting.fits
    return Fitted(np.stack(start)[:count].reshape(*shape, -1), np.asarray(errors)[:count].reshape(shape))


def programs(selecting: Selecting, spec: EnvSpec, data: Replay, together: int) -> tuple[Callable[..., Any], ...]:
    """What is compiled for fits that run at the same time: their beginning, some updates, and the values found."""
    config = selecting.fit()
    lengths = offline_lengths(config, spec, EVALUATION, data)

    def begin(given: tuple[Joint, PRNGKeyArray]) -> Fit:
        policy, key = given
        k_init, k_learn = jax.random.split(key)
        return Fit(phases.begin(evaluator(config.learner, spec, selecting.mixer, k_init), k_learn), policy)

    def learn(fit: Fit, data: Replay, updates: Array) -> tuple[Fit, Array]:
        followed = only(data, fit.policy, spec.n_actions)
        state = fit.state._replace(sums=phases.zero_sums())
        state = phases.learn_offline(config, spec, EVALUATION, state, followed, updates, lengths)
        error = state.sums.total.losses.td_error / state.sums.updates
        return Fit(state, fit.policy), jnp.where(finiteness.is_well(state.sums.halt), error, jnp.nan)

    def estimate(fit: Fit, data: Replay) -> Array:
        return start_values(fit.state.learner.team, data, fit.policy, spec)

    return (
        over_seeds(begin, together, keep=True),
        over_seeds(learn, together),
        over_seeds(estimate, together, keep=True),
    )
