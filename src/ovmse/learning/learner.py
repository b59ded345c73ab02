"""The learner: fresh networks, and one gradient update on a batch of episodes. The only user of the optimiser."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.config import LearnerConfig
from ovmse.core import values
from ovmse.core.kinds import network_of_agents
from ovmse.core.networks import PLAIN, Parts, Team, make_team
from ovmse.core.schedules import is_zero
from ovmse.core.types import EnvSpec, Episode
from ovmse.methods.signatures import Loss, LossInputs, NextValue, PerStep, Priority
from ovmse.methods.targets import double_q

RMSPROP: dict[str, Any] = {"decay": 0.99, "eps": 1e-5, "eps_in_sqrt": False}  # PyMARL's (Samvelyan et al. 2019)
SCALE_RATE = 0.01  # of the running mean of y²: about a hundred updates
NEXT_VALUE = 2**31 - 1  # folded into an episode's key for the next values, where losses split it


class Learner(NamedTuple):
    """What an update changes.

    team: the online network. target: the target network. optimiser: its state. updates: gradient updates so far.
    target_square: the running mean of y², by which squared errors are divided where values are normalised.
    """

    team: Team
    target: Team
    optimiser: optax.OptState
    updates: Int[Array, ""]
    target_square: Float[Array, ""]


class Losses(NamedTuple):
    """Means over the valid steps of a batch.

    td_error: (Q_tot − y)². regulariser: the loss beyond that. target: y. target_square: y².
    memory_active_share: of the steps at which what is remembered is above the TD target.
    """

    loss: Float[Array, ""]
    td_error: Float[Array, ""]
    regulariser: Float[Array, ""]
    q_tot: Float[Array, ""]
    target: Float[Array, ""]
    target_square: Float[Array, ""]
    memory_active_share: Float[Array, ""]


def no_losses(dtype: Any) -> Losses:
    """All zero."""
    return Losses(*(jnp.zeros((), dtype) for _ in Losses._fields))


class Metrics(NamedTuple):
    """One update in numbers."""

    losses: Losses
    grad_norm: Float[Array, ""]


class Objective(NamedTuple):
    """What a method makes of a batch at one point of a run.

    regress_onto: (TD target, offline value) → what Q_tot regresses onto.
    progress: the spent share of the online budget.
    offline_share: the share of a batch that is the dataset's, on average.
    error_scale: what squared errors are divided by.
    within_return: whether `regress_onto` is applied at each step of the λ-return's recursion, not to its result.
    whole_episodes: whether the loss must be given single episodes (`Method.whole_episodes`).
    """

    loss: Loss
    regress_onto: Callable[[PerStep, PerStep], PerStep]
    next_value: NextValue = double_q
    priority: Priority | None = None
    progress: Float[Array, ""] | float = 0.0
    offline_share: Float[Array, ""] | float = 1.0
    error_scale: Float[Array, ""] | float = 1.0
    within_return: bool = False
    whole_episodes: bool = False


class Batch(NamedTuple):
    """Episodes, single ones or several laid end to end (leading axis B), what is remembered beside their steps, which
    of these are the dataset's, and how often each was to be drawn (see `LossInputs`; None: all alike)."""

    episodes: Episode
    offline_value: Float[Array, "B T"]
    from_data: Bool[Array, "B T"]
    drawn: Float[Array, "B T"] | None = None


def make_optimiser(config: LearnerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam or RMSprop; on all parameters as one vector, which compiles sooner."""
    rate = config.learning_rate
    step = optax.adam(rate) if config.optimiser == "adam" else optax.rmsprop(rate, **RMSPROP)
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip_norm), step))


def init(config: LearnerConfig, spec: EnvSpec, key: PRNGKeyArray, parts: Parts = PLAIN) -> Learner:
    """A learner with fresh networks of these parts; the target network starts equal to the online one."""
    team = make_team(
        spec,
        parts if config.mixer is None else replace(parts, mixer=config.mixer),
        hidden=config.hidden,
        embedding=config.embedding,
        hyper=config.hyper,
        key=key,
        kinds=network_of_agents(config.parameters, config.kinds, spec.n_agents),
    )
    return restart(config, team)


def restart(config: LearnerConfig, team: Team) -> Learner:
    """A learner that goes on from a team with a fresh optimiser and an equal target network (the handover)."""
    optimiser = make_optimiser(config).init(eqx.filter(team, eqx.is_array))
    return Learner(team, team, optimiser, jnp.zeros((), jnp.int32), jnp.ones(()))


def episode_loss(
    config: LearnerConfig, objective: Objective, team: Team, target: Team, one: Batch, key: PRNGKeyArray
) -> tuple[Losses, Float[Array, ""]]:
    """Sums over the valid steps of one of a batch's episodes (a `Batch` without its leading axis), and its priority."""
    episode, offline_value, from_data, drawn = one
    if not config.bootstrap_at_limit:
        episode = episode._replace(terminal=episode.terminal | values.last_steps(episode.valid))
    v = values.evaluate_episode(team, target, episode)
    reward, terminal, valid = episode.reward, episode.terminal, episode.valid

    def bootstrap(next_value: PerStep) -> PerStep:
        if not is_zero(config.td_lambda):
            return values.lambda_return(reward, terminal, valid, next_value, config.gamma, config.td_lambda)
        return values.td_target(reward, terminal, next_value, config.gamma)

    next_value = objective.next_value(v, episode, jax.random.fold_in(key, NEXT_VALUE))
    plain_target = bootstrap(next_value)
    if objective.within_return:
        settings = config.gamma, config.td_lambda, objective.regress_onto, offline_value
        target_value = values.lambda_return(reward, terminal, valid, next_value, *settings)
    else:
        target_value = objective.regress_onto(plain_target, offline_value)
    inputs = LossInputs(
        values=v,
        td_target=target_value,
        offline_value=offline_value,
        episode=episode,
        from_data=from_data,
        bootstrap=bootstrap,
        gamma=config.gamma,
        progress=jnp.asarray(objective.progress, reward.dtype),
        key=key,
        offline_share=objective.offline_share,
        error_scale=objective.error_scale,
        drawn=1.0 if drawn is None else drawn,
    )
    loss = objective.loss(inputs)
    td_error = (v.q_tot - inputs.td_target) ** 2
    active = (offline_value > plain_target).astype(reward.dtype)
    beyond, y = loss - td_error / objective.error_scale, inputs.td_target
    per_step = loss, td_error, beyond, v.q_tot, y, y**2, active
    losses = Losses(*(jnp.where(valid, x, 0.0).sum() for x in per_step))
    return losses, jax.lax.stop_gradient(objective.priority(inputs)) if objective.priority else jnp.ones(())


def batch_loss(
    config: LearnerConfig,
    objective: Objective,
    team: Team,
    target: Team,
    batch: Batch,
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Float[Array, ""], tuple[Losses, Float[Array, " B"]]]:
    """Means over the valid steps of a batch, and every episode's priority.

    steps: where these episodes are a part of a batch, the valid steps of all of it, so that parts add up.
    """
    keys = jax.random.split(key, batch.offline_value.shape[0])
    each, priorities = jax.vmap(lambda one, k: episode_loss(config, objective, team, target, one, k))(batch, keys)
    count = jnp.maximum(1, batch.episodes.valid.sum() if steps is None else steps)
    means = jax.tree.map(lambda x: x.sum() / count, each)
    return means.loss, (means, priorities)


def gradient(
    config: LearnerConfig,
    objective: Objective,
    learner: Learner,
    batch: Batch,
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Team, Losses, Float[Array, " B"]]:
    """The gradient of `batch_loss` with respect to the online team, the loss in numbers, and the priorities."""
    if config.value_normalisation:
        objective = objective._replace(error_scale=learner.target_square)

    def loss_of(team: Team) -> tuple[Float[Array, ""], tuple[Losses, Float[Array, " B"]]]:
        return batch_loss(config, objective, team, learner.target, batch, key, steps)

    gradients, (losses, priorities) = eqx.filter_grad(loss_of, has_aux=True)(learner.team)
    return gradients, losses, priorities


def apply(
    config: LearnerConfig, learner: Learner, gradients: Team, target_square: Float[Array, ""] | float = 1.0
) -> Learner:
    """One step of the optimiser, and the target network's; target_square: the mean of y² over the batch."""
    changes, optimiser = make_optimiser(config).update(gradients, learner.optimiser)
    team = eqx.apply_updates(learner.team, changes)
    updates = learner.updates + 1
    if config.target_every_updates is None:
        rate = config.target_rate
        target = jax.tree.map(lambda new, old: old + rate * (new - old), team, learner.target)
    else:
        copy = updates % config.target_every_updates == 0
        target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), team, learner.target)
    running = learner.target_square + SCALE_RATE * (target_square - learner.target_square)
    return Learner(team, target, optimiser, updates, running)
