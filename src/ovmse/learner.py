"""The learner: fresh networks, and one gradient update on a batch of episodes. The only user of the optimiser."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse import values
from ovmse.context import Context, Loss, NextValue, PerStep, Priority
from ovmse.errors import UserError, check_positive, check_share
from ovmse.method import double_q
from ovmse.mixers import MixerName
from ovmse.networks import PLAIN, Parts, Team, make_team
from ovmse.types import EnvSpec, Episode

NEXT_VALUE = 2**31 - 1  # folded into an episode's key for the next values, where losses split it


@dataclass(frozen=True)
class LearnerConfig:
    """Sizes of the networks and settings of the optimiser."""

    hidden: int = 64
    """units of the agents' recurrent layer (H)"""
    mixer: MixerName | None = None
    """how utilities become Q_tot: qmix, linear or vdn; by default the method's own, most often qmix"""
    embedding: int = 32
    """units of QMIX's mixing layer (M)"""
    hyper: int = 64
    """units of QMIX's hypernetworks (E)"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    td_lambda: float = 0.6
    """λ of the λ-return; 0 is the one-step target"""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 5e-4
    """step size of the optimiser, per update"""
    clip_norm: float = 10.0
    """largest global norm of a gradient"""
    target_every_updates: int = 200
    """updates between hard copies into the target network (ignored where target_rate is set)"""
    target_rate: float | None = None
    """soft target: share of the online network mixed into the target network at every update"""

    def __post_init__(self) -> None:
        check_share("gamma (γ)", self.gamma)
        check_share("td_lambda", self.td_lambda)
        for name in ("hidden", "embedding", "hyper", "learning_rate", "clip_norm", "target_every_updates"):
            check_positive(name, getattr(self, name))
        if self.target_rate is not None:
            check_share("target_rate", self.target_rate)
        if self.optimiser not in ("adam", "rmsprop"):
            raise UserError(f"unknown optimiser {self.optimiser!r}; known: adam, rmsprop.")
        if self.mixer not in (None, "qmix", "linear", "vdn"):
            raise UserError(f"unknown mixer {self.mixer!r}; known: qmix, linear, vdn.")


class Learner(NamedTuple):
    """What an update changes. slow: the target network; updates: gradient updates so far."""

    team: Team
    slow: Team
    optimiser: optax.OptState
    updates: Int[Array, ""]


class Losses(NamedTuple):
    """Means over the valid steps of a batch. regulariser: the loss beyond the squared TD error."""

    loss: Float[Array, ""]
    td_error: Float[Array, ""]
    regulariser: Float[Array, ""]
    q_tot: Float[Array, ""]
    target: Float[Array, ""]
    memory_wins: Float[Array, ""]


def no_losses(dtype: Any) -> Losses:
    """All zero."""
    return Losses(*(jnp.zeros((), dtype) for _ in Losses._fields))


class Metrics(NamedTuple):
    """One update in numbers."""

    losses: Losses
    grad_norm: Float[Array, ""]


class Lesson(NamedTuple):
    """What a method makes of a batch at one point of a run.

    target: (TD target, memory) → what Q_tot regresses onto. progress: the spent share of the online budget.
    """

    loss: Loss
    target: Callable[[PerStep, PerStep], PerStep]
    next_value: NextValue = double_q
    priority: Priority | None = None
    progress: Float[Array, ""] | float = 0.0


class Batch(NamedTuple):
    """Episodes (leading axis B), what is remembered beside their steps, which of them are the dataset's, and how often
    each was to be drawn (see `Context`; None: all alike)."""

    episodes: Episode
    memory: Float[Array, "B T"]
    from_data: Bool[Array, " B"]
    drawn: Float[Array, " B"] | None = None


def make_optimiser(config: LearnerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam or RMSprop; on all parameters as one vector, which compiles sooner."""
    make = optax.adam if config.optimiser == "adam" else optax.rmsprop
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip_norm), make(config.learning_rate)))


def init(config: LearnerConfig, spec: EnvSpec, key: PRNGKeyArray, parts: Parts = PLAIN) -> Learner:
    """A learner with fresh networks of these parts; the target network starts equal to the online one."""
    team = make_team(
        spec,
        parts if config.mixer is None else replace(parts, mixer=config.mixer),
        hidden=config.hidden,
        embedding=config.embedding,
        hyper=config.hyper,
        key=key,
    )
    return restart(config, team)


def restart(config: LearnerConfig, team: Team) -> Learner:
    """A learner that goes on from a team with a fresh optimiser and an equal target network (the handover)."""
    return Learner(team, team, make_optimiser(config).init(eqx.filter(team, eqx.is_array)), jnp.zeros((), jnp.int32))


def episode_loss(
    config: LearnerConfig, lesson: Lesson, team: Team, slow: Team, one: Batch, key: PRNGKeyArray
) -> tuple[Losses, Float[Array, ""]]:
    """Sums over the valid steps of one episode (a `Batch` without its leading axis), and its priority (1 without)."""
    episode, memory, from_data, drawn = one
    v = values.evaluate_episode(team, slow, episode)
    reward, terminal, valid = episode.reward, episode.terminal, episode.valid

    def bootstrap(next_value: PerStep) -> PerStep:
        if config.td_lambda > 0:
            return values.lambda_return(reward, terminal, valid, next_value, config.gamma, config.td_lambda)
        return values.td_target(reward, terminal, next_value, config.gamma)

    td = bootstrap(lesson.next_value(v, episode, jax.random.fold_in(key, NEXT_VALUE)))
    target = lesson.target(td, memory)
    progress = jnp.asarray(lesson.progress, reward.dtype)
    often = 1.0 if drawn is None else drawn
    context = Context(v, target, memory, episode, from_data, bootstrap, config.gamma, progress, key, often)
    per_step = lesson.loss(context)
    td_error = (v.q_tot - target) ** 2

    def total(x: PerStep) -> Float[Array, ""]:
        return jnp.where(valid, x, 0.0).sum()

    wins = (memory > td).astype(target.dtype)
    losses = Losses(*map(total, (per_step, td_error, per_step - td_error, v.q_tot, target, wins)))
    return losses, jax.lax.stop_gradient(lesson.priority(context)) if lesson.priority else jnp.ones(())


def batch_loss(
    config: LearnerConfig,
    lesson: Lesson,
    team: Team,
    slow: Team,
    batch: Batch,
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Float[Array, ""], tuple[Losses, Float[Array, " B"]]]:
    """Means over the valid steps of a batch, and every episode's priority.

    steps: where these episodes are a part of a batch, the valid steps of all of it, so that parts add up.
    """
    keys = jax.random.split(key, batch.memory.shape[0])
    each, priorities = jax.vmap(lambda one, k: episode_loss(config, lesson, team, slow, one, k))(batch, keys)
    count = jnp.maximum(1, batch.episodes.valid.sum() if steps is None else steps)
    means = jax.tree.map(lambda x: x.sum() / count, each)
    return means.loss, (means, priorities)


def gradient(
    config: LearnerConfig,
    lesson: Lesson,
    learner: Learner,
    batch: Batch,
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Team, Losses, Float[Array, " B"]]:
    """The gradient of `batch_loss` with respect to the online team, the loss in numbers, and the priorities."""

    def objective(team: Team) -> tuple[Float[Array, ""], tuple[Losses, Float[Array, " B"]]]:
        return batch_loss(config, lesson, team, learner.slow, batch, key, steps)

    gradients, (losses, priorities) = eqx.filter_grad(objective, has_aux=True)(learner.team)
    return gradients, losses, priorities


def apply(config: LearnerConfig, learner: Learner, gradients: Team) -> Learner:
    """One step of the optimiser, and the target network's."""
    changes, optimiser = make_optimiser(config).update(gradients, learner.optimiser)
    team = eqx.apply_updates(learner.team, changes)
    updates = learner.updates + 1
    if config.target_rate is None:
        copy = updates % config.target_every_updates == 0
        slow = jax.tree.map(lambda new, old: jnp.where(copy, new, old), team, learner.slow)
    else:
        rate = config.target_rate
        slow = jax.tree.map(lambda new, old: old + rate * (new - old), team, learner.slow)
    return Learner(team, slow, optimiser, updates)
