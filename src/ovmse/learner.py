"""The learner: fresh networks, and one gradient update on a batch of episodes. The only user of the optimiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse import values
from ovmse.errors import UserError, check_positive, check_share
from ovmse.method import Loss, PerStep
from ovmse.networks import MixerName, Team, make_team
from ovmse.types import EnvSpec, Episode


@dataclass(frozen=True)
class LearnerConfig:
    """Sizes of the networks and settings of the optimiser."""

    hidden: int = 64
    """units of the agents' recurrent layer (H)"""
    mixer: MixerName = "qmix"
    """how utilities become Q_tot"""
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
        if self.mixer not in ("qmix", "vdn"):
            raise UserError(f"unknown mixer {self.mixer!r}; known: qmix, vdn.")


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


Regress = Callable[[PerStep, PerStep], PerStep]
"""(TD target, memory) → what Q_tot regresses onto."""


def make_optimiser(config: LearnerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam or RMSprop; on all parameters as one vector, which compiles sooner."""
    make = optax.adam if config.optimiser == "adam" else optax.rmsprop
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.clip_norm), make(config.learning_rate)))


def init(config: LearnerConfig, spec: EnvSpec, key: PRNGKeyArray) -> Learner:
    """A learner with fresh networks; the target network starts equal to the online one."""
    team = make_team(
        spec,
        mixer=config.mixer,
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
    config: LearnerConfig,
    loss: Loss,
    regress: Regress,
    team: Team,
    slow: Team,
    episode: Episode,
    memory: PerStep,
    key: PRNGKeyArray,
) -> Losses:
    """Sums over the valid steps of one episode."""
    v = values.evaluate_episode(team, slow, episode)
    reward, terminal, valid = episode.reward, episode.terminal, episode.valid
    if config.td_lambda > 0:
        td = values.lambda_return(reward, terminal, valid, v.next_q_tot, config.gamma, config.td_lambda)
    else:
        td = values.td_target(reward, terminal, v.next_q_tot, config.gamma)
    target = regress(td, memory)
    per_step = loss(v, target, episode, key)
    td_error = (v.q_tot - target) ** 2

    def total(x: PerStep) -> Float[Array, ""]:
        return jnp.where(valid, x, 0.0).sum()

    wins = (memory > td).astype(target.dtype)
    return Losses(*map(total, (per_step, td_error, per_step - td_error, v.q_tot, target, wins)))


def batch_loss(
    config: LearnerConfig,
    loss: Loss,
    regress: Regress,
    team: Team,
    slow: Team,
    episodes: Episode,
    memory: Float[Array, "B T"],
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Float[Array, ""], Losses]:
    """Means over the valid steps of a batch of episodes (leading axis B).

    steps: where these episodes are a part of a batch, the valid steps of all of it, so that parts add up.
    """
    each = jax.vmap(lambda episode, m, k: episode_loss(config, loss, regress, team, slow, episode, m, k))(
        episodes, memory, jax.random.split(key, memory.shape[0])
    )
    count = jnp.maximum(1, episodes.valid.sum() if steps is None else steps)
    means = jax.tree.map(lambda x: x.sum() / count, each)
    return means.loss, means


def gradient(
    config: LearnerConfig,
    loss: Loss,
    regress: Regress,
    learner: Learner,
    episodes: Episode,
    memory: Float[Array, "B T"],
    key: PRNGKeyArray,
    steps: Int[Array, ""] | None = None,
) -> tuple[Team, Losses]:
    """The gradient of `batch_loss` with respect to the online team, and the loss in numbers."""

    def objective(team: Team) -> tuple[Float[Array, ""], Losses]:
        return batch_loss(config, loss, regress, team, learner.slow, episodes, memory, key, steps)

    return eqx.filter_grad(objective, has_aux=True)(learner.team)


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
