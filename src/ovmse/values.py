"""Targets and regularisers: one formula, one function, one episode.

No function has a batch axis, and none masks padding: each gives a value per step, and the learner averages
the valid ones. Illegal actions are masked before every maximum and logsumexp.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.explore import random_legal
from ovmse.networks import MixWeights, Team, chosen, mix, unroll, weights_at
from ovmse.types import Episode

ILLEGAL = -1e9  # finite, so that a row of padding without legal actions stays a number


class Values(NamedTuple):
    """What one pass of the online and of the slow network says of an episode.

    q: utilities of the online network at steps 0 … T-1; q_tot: its Q_tot at the taken joint actions;
    weights: its mixer's weights there (None for VDN); next_q_tot: the slow network's Q_tot at the next row and
    the joint action that is greedy for the online network (double Q-learning). Only the slow part is constant.
    """

    q: Float[Array, "T N A"]
    q_tot: Float[Array, " T"]
    weights: MixWeights | None
    next_q_tot: Float[Array, " T"]


def evaluate_episode(team: Team, slow: Team, episode: Episode) -> Values:
    """One unroll of each network over an episode."""
    q = unroll(team.agent, episode)
    q_slow = unroll(slow.agent, episode)
    weights = weights_at(team.mixer, episode.state[:-1])
    next_action = jnp.argmax(mask_illegal(q, episode.avail), axis=-1)[1:]
    next_q_tot = mix(weights_at(slow.mixer, episode.state[1:]), chosen(q_slow[1:], next_action))
    return Values(
        q=q[:-1],
        q_tot=mix(weights, chosen(q[:-1], episode.action)),
        weights=weights,
        next_q_tot=jax.lax.stop_gradient(next_q_tot),
    )


def taken_q_tot(team: Team, episode: Episode) -> Float[Array, " T"]:
    """Q_tot at the taken joint actions."""
    q = unroll(team.agent, episode)[:-1]
    return mix(weights_at(team.mixer, episode.state[:-1]), chosen(q, episode.action))


def mask_illegal(q: Float[Array, "*rows N A"], avail: Bool[Array, "*rows N A"]) -> Float[Array, "*rows N A"]:
    """Utilities with illegal actions at a very low value."""
    return jnp.where(avail, q, ILLEGAL)


def td_target(
    reward: Float[Array, " T"], terminal: Bool[Array, " T"], next_q_tot: Float[Array, " T"], gamma: float
) -> Float[Array, " T"]:
    """y = r + γ (1 − d) Q̄_tot(τ', u'*, s'). A time limit is not terminal, so it bootstraps."""
    return reward + gamma * jnp.where(terminal, 0.0, next_q_tot)


def lambda_return(
    reward: Float[Array, " T"],
    terminal: Bool[Array, " T"],
    valid: Bool[Array, " T"],
    next_q_tot: Float[Array, " T"],
    gamma: float,
    lambda_: float,
) -> Float[Array, " T"]:
    """TD(λ): G_t = r_t + γ (1 − d_t) [(1 − λ) Q̄_{t+1} + λ G_{t+1}] (Sutton & Barto 2018, equation 12.2).

    The last valid step bootstraps from Q̄ alone. With λ = 0 this is `td_target`.
    """

    def backwards(later, step):
        r, d, q, last = step
        ahead = jnp.where(last, q, (1.0 - lambda_) * q + lambda_ * later)
        now = r + gamma * jnp.where(d, 0.0, ahead)
        return now, now

    last = valid & ~jnp.concatenate([valid[1:], jnp.zeros((1,), bool)])
    steps = reward, terminal, next_q_tot, last
    return jax.lax.scan(backwards, jnp.zeros((), reward.dtype), steps, reverse=True)[1]


def remembered_target(
    target: Float[Array, " T"], memory: Float[Array, " T"], weight: Float[Array, ""]
) -> Float[Array, " T"]:
    """y + λ max(0, m − y): Offline Value Function Memory (OVMSE, Zhong et al. 2024).

    The paper minimises (1 − λ)(Q − y)² + λ (Q − max(m, y))². Regressing once onto this target has the same gradient.
    """
    return target + weight * jnp.maximum(0.0, memory - target)


def cql_per_agent(
    q: Float[Array, "T N A"], avail: Bool[Array, "T N A"], action: Int[Array, "T N"]
) -> Float[Array, " T"]:
    """Σ_i [logsumexp over legal a of Q_i(a) − Q_i(u_i)]: conservative Q-learning on each utility."""
    return (jax.nn.logsumexp(mask_illegal(q, avail), axis=-1) - chosen(q, action)).sum(axis=-1)


def cql_joint(
    weights: MixWeights | None,
    q: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    action: Int[Array, "T N"],
    sampled: Int[Array, "K T N"],
) -> Float[Array, " T"]:
    """logsumexp over K sampled legal joint actions and the data's of Q_tot, minus Q_tot of the data's."""
    taken = mix(weights, chosen(q, action))
    others = jax.vmap(lambda joint: mix(weights, chosen(q, joint)))(sampled)
    return jax.nn.logsumexp(jnp.concatenate([taken[None], others]), axis=0) - taken


def sample_joint(key: PRNGKeyArray, avail: Bool[Array, "T N A"], samples: int) -> Int[Array, "K T N"]:
    """Joint actions drawn uniformly among the legal ones."""
    steps = jax.random.split(key, (samples, avail.shape[0]))
    return jax.vmap(jax.vmap(random_legal), in_axes=(0, None))(steps, avail)


def counterfactual_q_tot(
    weights: MixWeights | None, q: Float[Array, "T N A"], action: Int[Array, "T N"]
) -> Float[Array, "T N A"]:
    """Q_tot(a, u_−i): agent i's action replaced, the others' kept.

    QMIX's first layer is linear in the utilities, so each replacement is a rank-one change of its sum.
    """
    taken = chosen(q, action)
    change = q - taken[..., None]
    if weights is None:
        return taken.sum(axis=-1)[:, None, None] + change
    before = jnp.einsum("tn,tnm->tm", taken, weights.w1) + weights.b1
    hidden = jax.nn.elu(before[:, None, None, :] + change[..., None] * weights.w1[:, :, None, :])
    return jnp.einsum("tnam,tm->tna", hidden, weights.w2) + weights.b2[:, None, None]


def cql_counterfactual(
    weights: MixWeights | None,
    q: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    action: Int[Array, "T N"],
) -> Float[Array, " T"]:
    """Σ_i (1/N) [logsumexp over legal a of Q_tot(a, u_−i) − Q_tot(u)] (CFCQL, Shao et al. 2023, equal weights)."""
    q_tot = counterfactual_q_tot(weights, q, action)
    return (jax.nn.logsumexp(mask_illegal(q_tot, avail), axis=-1) - chosen(q_tot, action)).mean(axis=-1)
