"""Targets and regularisers: one formula, one function, one episode.

No function has a batch axis, and none masks padding: each gives a value per step, and the learner averages
the valid ones. Illegal actions are masked before every maximum and logsumexp.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.core.action_selection import random_legal
from ovmse.core.mixers import LinearWeights, MixWeights, agent_mean, mix, weights_at
from ovmse.core.networks import Heads, Ratio, Team, chosen, unroll
from ovmse.core.padding import present
from ovmse.core.types import Episode

Scalar = Float[Array, ""] | float | int
"""A number: a constant, or inside a compiled program an argument of it."""

ILLEGAL = -1e9  # finite, so that a row of padding without legal actions stays a number


class Values(NamedTuple):
    """What one pass of the online and of the target network says of an episode.

    The target network's parts are constants: no gradient flows through them.

    online, target: the agents' heads at rows 0 … T.
    ratio: the network that tells offline from online steps, where the team has one.
    weights, target_weights: each network's mixer at the states of steps 0 … T-1.
    next_weights: the target network's mixer at the rows after those steps.
    q: utilities of the online network at the steps.
    q_tot: the online network's Q_tot at the taken joint actions.
    present: which agents are in play at rows 0 … T; the others have no weight in either mixer.
    next_q_tot: the target network's Q_tot at the next row and the joint action that is greedy for the online network
        (double Q-learning), the smallest of all critics.
    """

    online: Heads
    target: Heads
    ratio: Ratio | None
    weights: MixWeights
    target_weights: MixWeights
    next_weights: MixWeights
    q: Float[Array, "T N A"]
    q_tot: Float[Array, " T"]
    present: Bool[Array, "T1 N"]
    next_q_tot: Float[Array, " T"]


def evaluate_episode(team: Team, target: Team, episode: Episode) -> Values:
    """One unroll of the online team's network and of the target network over an episode."""
    heads, target_heads = unroll(team.agent, episode), unroll(target.agent, episode)
    there = present(episode.obs, episode.avail)
    weights, target_weights = (weights_at(x.mixer, episode.state[:-1], there[:-1]) for x in (team, target))
    next_weights = weights_at(target.mixer, episode.state[1:], there[1:])
    target_heads, target_weights, next_weights = jax.lax.stop_gradient((target_heads, target_weights, next_weights))
    q = heads.q
    next_action = jnp.argmax(mask_illegal(q, episode.avail), axis=-1)[1:]
    return Values(
        online=heads,
        target=target_heads,
        ratio=team.ratio,
        weights=weights,
        target_weights=target_weights,
        next_weights=next_weights,
        q=q[:-1],
        q_tot=mix(weights, chosen(q[:-1], episode.action)),
        present=there,
        next_q_tot=q_tot_of_critics(next_weights, target_heads.critics[1:], next_action).min(axis=0),
    )


def taken_q_tot(team: Team, episode: Episode) -> Float[Array, " T"]:
    """Q_tot at the taken joint actions."""
    weights = weights_at(team.mixer, episode.state[:-1], present(episode.obs, episode.avail)[:-1])
    return mix(weights, chosen(unroll(team.agent, episode).q[:-1], episode.action))


def q_tot_of_critics(
    weights: MixWeights, critics: Float[Array, "T N K A"], action: Int[Array, "T N"]
) -> Float[Array, "K T"]:
    """Q_tot of each critic at one joint action per row."""
    return jnp.stack([mix(weights, chosen(critics[..., k, :], action)) for k in range(critics.shape[-2])])


def log_policy(logits: Float[Array, "*rows N A"], avail: Bool[Array, "*rows N A"]) -> Float[Array, "*rows N A"]:
    """log π_i(a): log-softmax over the legal actions."""
    return jax.nn.log_softmax(mask_illegal(logits, avail), axis=-1)


def mask_illegal(q: Float[Array, "*rows N A"], avail: Bool[Array, "*rows N A"]) -> Float[Array, "*rows N A"]:
    """Utilities with illegal actions at a very low value."""
    return jnp.where(avail, q, ILLEGAL)


def log_policy_at_steps(v: Values, episode: Episode) -> Float[Array, "T N A"]:
    """log π_i of the online network's policy at steps 0 … T-1."""
    assert v.online.logits is not None, "the method's networks have no policy: Parts(policy=True)"
    return log_policy(v.online.logits[:-1], episode.avail[:-1])


def next_of_policy(v: Values, episode: Episode, key: PRNGKeyArray) -> Float[Array, " T"]:
    """Q̄_tot after each step at a joint action drawn from the online network's policy, the smallest of all critics."""
    masked = mask_illegal(v.online.acting, episode.avail)[1:]
    action = jax.random.categorical(key, masked, axis=-1)
    return q_tot_of_critics(v.next_weights, v.target.critics[1:], action).min(axis=0)


def advantage_weight(advantage: Float[Array, "*any"], temperature: Scalar, largest: Scalar) -> Float[Array, "*any"]:
    """exp(A / temperature), at most `largest`, as a constant (advantage-weighted regression, Peng et al. 2019)."""
    return jax.lax.stop_gradient(jnp.exp(jnp.minimum(advantage / temperature, jnp.log(largest))))


def td_target(
    reward: Float[Array, " T"], terminal: Bool[Array, " T"], next_q_tot: Float[Array, " T"], gamma: Scalar
) -> Float[Array, " T"]:
    """y = r + γ (1 − d) Q̄_tot(τ', u'*, s'). A time limit is not terminal, so it bootstraps."""
    return reward + gamma * jnp.where(terminal, 0.0, next_q_tot)


def lambda_return(
    reward: Float[Array, " T"],
    terminal: Bool[Array, " T"],
    valid: Bool[Array, " T"],
    next_q_tot: Float[Array, " T"],
    gamma: Scalar,
    lambda_: Scalar,
    raised: Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]] = lambda y, offline: y,
    offline_value: Float[Array, " T"] | None = None,
) -> Float[Array, " T"]:
    """TD(λ): G_t = r_t + γ (1 − d_t) [(1 − λ) Q̄_{t+1} + λ G_{t+1}] (Sutton & Barto 2018, equation 12.2).

    The last valid step bootstraps from Q̄ alone. With λ = 0 this is `td_target`.

    raised: what becomes of each step's target (y, what is remembered beside it) before the step before sees it.
    """

    def backwards(later: Float[Array, ""], step: tuple[Array, ...]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        r, d, q, last, offline = step
        ahead = jnp.where(last, q, (1.0 - lambda_) * q + lambda_ * later)
        now = raised(r + gamma * jnp.where(d, 0.0, ahead), offline)
        return now, now

    steps = reward, terminal, next_q_tot, last_steps(valid), next_q_tot if offline_value is None else offline_value
    return jax.lax.scan(backwards, jnp.zeros((), reward.dtype), steps, reverse=True)[1]


def last_steps(valid: Bool[Array, " T"]) -> Bool[Array, " T"]:
    """Whether a step is the last one of its episode."""
    return valid & ~jnp.concatenate([valid[1:], jnp.zeros((1,), bool)])


def returns_to_go(
    reward: Float[Array, " T"], terminal: Bool[Array, " T"], valid: Bool[Array, " T"], gamma: Scalar
) -> Float[Array, " T"]:
    """G_t = r_t + γ G_{t+1}: what the episode brought from each step on, up to its end or the time limit."""
    nothing = jnp.zeros_like(reward)
    return lambda_return(jnp.where(valid, reward, 0.0), terminal, valid, nothing, gamma, 1.0)


def memory_target(
    td_target: Float[Array, "*steps"], offline_value: Float[Array, "*steps"], weight: Float[Array, ""]
) -> Float[Array, "*steps"]:
    """y + λ max(0, Q_off − y): Offline Value Function Memory (OVMSE, Zhong et al. 2024, arXiv 2410.19450).

    The paper minimises (1 − λ)(Q − y)² + λ (Q − max(Q_off, y))². Regressing once onto this target has the same
    gradient.

    Args:
        td_target: y, the TD target of each step.
        offline_value: Q_off, what the frozen offline team thinks of the taken joint actions.
        weight: λ in [0, 1].
    """
    return td_target + weight * jnp.maximum(0.0, offline_value - td_target)


def cql_per_agent(
    q: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    action: Int[Array, "T N"],
    present: Bool[Array, "T N"] | None = None,
) -> Float[Array, " T"]:
    """Σ_i (1/N) [logsumexp over legal a of Q_i(a) − Q_i(u_i)], N agents being present: CQL on each utility."""
    return agent_mean(jax.nn.logsumexp(mask_illegal(q, avail), axis=-1) - chosen(q, action), present)


def cql_joint(
    weights: MixWeights,
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
    weights: MixWeights, q: Float[Array, "T N A"], action: Int[Array, "T N"]
) -> Float[Array, "T N A"]:
    """Q_tot(a, u_−i): agent i's action replaced, the others' kept.

    QMIX's first layer is linear in the utilities, so each replacement is a rank-one change of its sum.
    """
    taken = chosen(q, action)
    change = q - taken[..., None]
    if weights is None:
        return taken.sum(axis=-1)[:, None, None] + change
    if isinstance(weights, LinearWeights):
        return mix(weights, taken)[:, None, None] + weights.w[..., None] * change
    before = jnp.einsum("tn,tnm->tm", taken, weights.w1) + weights.b1
    hidden = jax.nn.elu(before[:, None, None, :] + change[..., None] * weights.w1[:, :, None, :])
    return jnp.einsum("tnam,tm->tna", hidden, weights.w2) + weights.b2[:, None, None]


def counterfactual_gaps(
    weights: MixWeights,
    q: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    action: Int[Array, "T N"],
    least: Float[Array, " T"] | None = None,
) -> Float[Array, "T N"]:
    """logsumexp over legal a of Q_tot(a, u_−i), minus Q_tot(u), for each agent. least: Q_tot(a, u_−i) counts as at
    least that in the sum (Cal-QL)."""
    q_tot = counterfactual_q_tot(weights, q, action)
    others = q_tot if least is None else jnp.maximum(q_tot, least[:, None, None])
    return jax.nn.logsumexp(mask_illegal(others, avail), axis=-1) - chosen(q_tot, action)


def counterfactual_advantage(
    weights: MixWeights,
    q: Float[Array, "T N A"],
    log_policy: Float[Array, "T N A"],
    action: Int[Array, "T N"],
) -> Float[Array, "T N"]:
    """Q_tot(u) − Σ_a π_i(a) Q_tot(a, u_−i) for each agent (COMA, Foerster et al. 2018)."""
    q_tot = counterfactual_q_tot(weights, q, action)
    return chosen(q_tot, action) - (jnp.exp(log_policy) * q_tot).sum(axis=-1)


def cql_counterfactual(
    weights: MixWeights,
    q: Float[Array, "T N A"],
    avail: Bool[Array, "T N A"],
    action: Int[Array, "T N"],
    present: Bool[Array, "T N"] | None = None,
) -> Float[Array, " T"]:
    """Σ_i (1/N) [logsumexp over legal a of Q_tot(a, u_−i) − Q_tot(u)] (CFCQL, Shao et al. 2023, equal weights)."""
    return agent_mean(counterfactual_gaps(weights, q, avail, action), present)
