"""Fitted Q evaluation for teams (Le, Voloshin, Yue 2019): what a given policy would earn, learned from a log.

An update is a TD update, Q_tot(τ, u, s) → r + γ (1 − d) Q̄_tot(τ', π(τ'), s'), in a log in which only the policy's own
joint action is legal: so the greedy next action *is* the policy's. What a frozen policy would do at a logged history
never changes, so it is computed once. Only steps at which the log follows the policy count: nothing is asked of the
other joint actions' values, and learning them too lends theirs to the policy's, which the log shows more seldom.

Axes: P policies, F fits, E episodes, R rows of the log, N agents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

from ovmse.config import Config, LearnerConfig
from ovmse.core.action_selection import greedy
from ovmse.core.mixers import mix, weights_at
from ovmse.core.networks import Parts, Team, agent_step, chosen, first_hidden, unroll
from ovmse.core.padding import present
from ovmse.core.types import EnvSpec, Episode
from ovmse.learning import finiteness, learner as learning, phases, replay as replays
from ovmse.learning.lengths import offline_lengths
from ovmse.learning.parallel import over_seeds
from ovmse.learning.phases import SeedState
from ovmse.learning.replay import Replay, aligned
from ovmse.methods.losses import squared_error
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class FollowedError:
    """(Q_tot − y)² of the steps at which every agent does what the evaluated policy would; nothing of the others."""

    def __call__(self, inputs: LossInputs) -> PerStep:
        episode = inputs.episode
        followed = chosen(episode.avail[:-1], episode.action).all(axis=-1)
        return jnp.where(followed, squared_error(inputs), 0.0)


EVALUATION = Method(offline_loss=FollowedError(), parts=Parts(normalise=True))
"""Layer normalisation bounds what the networks say of histories that the log does not hold."""

Joint = UInt[Array, "R N"]


class FitSettings(NamedTuple):
    """How values are fitted.

    config: what updates read: networks, γ, the optimiser, the size of a batch; with one-step targets, since a λ-return
    would follow the log's policy, and episodes that end where they were cut, as the returns beside them do.
    updates: of each fit. fits: of each policy. seed: of the first networks and batches. resampled: where each fit has
    a draw of its own of the log's episodes, with replacement and the same for all policies (the bootstrap of Hao et al.
    2021): how many episodes there are of each part of the log, which is drawn from by itself.
    """

    config: Config
    updates: int
    fits: int = 1
    seed: int = 0
    resampled: tuple[int, ...] = ()


class Fit(NamedTuple):
    """A fit under way. policy: the joint action of the policy that is evaluated, at every row of the log; drawn: the
    episodes that the fit learns from."""

    state: SeedState
    policy: Joint
    drawn: Int[Array, " E"]


class Fitted(NamedTuple):
    """What the fits found. start: the value of each episode's first row (NaN where a fit was no longer a number);
    halfway: the same after half of the updates; drawn: the episodes that each fit learned from."""

    start: Float[np.ndarray, "P F E"]
    halfway: Float[np.ndarray, "P F E"]
    drawn: Int[np.ndarray, "F E"]


def fit_settings(
    learner: LearnerConfig, batch_episodes: int, updates: int, *, target_rate: float = 0.05, **given: Any
) -> FitSettings:
    """Fits with the sizes, the step size and the γ of a learner. given: further fields of `FitSettings`.

    The target network is soft, and faster than a learner's: one-step targets have to travel through an episode.
    """
    fitted = replace(
        learner,
        mixer=None,
        parameters="shared",
        kinds=None,
        td_lambda=0.0,
        bootstrap_at_limit=False,
        target_rate=target_rate,
        target_every_updates=None,
        value_normalisation=False,
    )
    return FitSettings(Config(learner=fitted, batch_episodes=batch_episodes), updates, **given)


def drawn_episodes(settings: FitSettings, episodes: int) -> Int[np.ndarray, "F E"]:
    """The episodes that each fit learns from."""
    if not settings.resampled:
        return np.tile(np.arange(episodes, dtype=np.int32), (settings.fits, 1))
    rng, firsts = np.random.default_rng(settings.seed), np.cumsum(settings.resampled) - settings.resampled
    parts = zip(firsts, settings.resampled, strict=True)
    return np.hstack([first + rng.integers(n, size=(settings.fits, n)) for first, n in parts]).astype(np.int32)


def joint_actions(team: Team, data: Replay, steps: int) -> Joint:
    """The greedy legal joint action of a team at every row of a log, given the logged history up to it.

    steps: those of the log's longest episode.
    """

    def act(episode: Episode) -> Int[Array, "T1 N"]:
        return greedy(unroll(team.agent, episode).acting, episode.avail)

    return replays.beside(data, jnp.zeros_like(data.rows.action), act, steps)


def only(data: Replay, policy: Joint, drawn: Int[Array, " E"], n_actions: int) -> Replay:
    """The drawn episodes of a log, with the policy's joint action as the one legal one."""
    legal: Bool[Array, "R N A"] = policy[..., None] == jnp.arange(n_actions, dtype=policy.dtype)
    return replays.picked(data._replace(rows=data.rows._replace(avail=legal)), drawn)


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


def programs(settings: FitSettings, spec: EnvSpec, data: Replay, together: int) -> tuple[Callable[..., Any], ...]:
    """What is compiled for fits that run at the same time: their beginning, some updates, and the values found."""
    config = settings.config
    lengths = offline_lengths(config, spec, EVALUATION, data)

    def begin(given: tuple[Joint, PRNGKeyArray, Int[Array, " E"]]) -> Fit:
        policy, key, drawn = given
        k_init, k_learn = jax.random.split(key)
        fresh = learning.init(config.learner, spec, k_init, EVALUATION.parts)
        return Fit(phases.begin(fresh, k_learn), policy, drawn)

    def learn(fit: Fit, data: Replay, updates: Array) -> tuple[Fit, Array]:
        followed = only(data, fit.policy, fit.drawn, spec.n_actions)
        state = phases.learn_offline(config, spec, EVALUATION, fit.state, followed, updates, lengths)
        return fit._replace(state=state), finiteness.is_well(state.sums.halt)

    def estimate(fit: Fit, data: Replay) -> Array:
        return start_values(fit.state.learner.team, data, fit.policy, spec)

    return (
        over_seeds(begin, together, keep=True),
        over_seeds(learn, together),
        over_seeds(estimate, together, keep=True),
    )
