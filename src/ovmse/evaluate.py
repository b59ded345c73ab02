"""Greedy evaluation: how good a team is when it explores no more."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse import explore
from ovmse.envs.protocol import Environment
from ovmse.networks import Agent
from ovmse.rollout import Rollout, collect
from ovmse.seeds import any_over_seeds

BLOCK = 32  # episodes played at once: more than that leave a core's cache


class Scores(NamedTuple):
    """One number per evaluated episode (leading axis B)."""

    returns: Float[Array, " B"]
    won: Bool[Array, " B"]
    length: Int[Array, " B"]


def pick_greedily(key: PRNGKeyArray, q: Float[Array, "N A"], avail: Bool[Array, "N A"]) -> Int[Array, " N"]:
    """The greedy joint action; the key is not used."""
    return explore.greedy(q, avail)


def scores(rollout: Rollout) -> Scores:
    """Undiscounted return, win and length of each episode."""
    return Scores(rollout.episodes.reward.sum(axis=-1), rollout.won, rollout.episodes.valid.sum(axis=-1))


def evaluate(env: Environment, agent: Agent, key: PRNGKeyArray, episodes: int) -> Scores:
    """Play `episodes` episodes greedily in a JAX environment; equal keys give equal episodes."""
    blocks = -(-episodes // BLOCK)
    keys = jax.random.split(key, (blocks, min(BLOCK, episodes)))
    played = jax.lax.map(lambda k: scores(collect(env, agent, pick_greedily, k, any_over_seeds)), keys)
    return jax.tree.map(lambda x: x.reshape(-1)[:episodes], played)


def recorded(env: Environment, agent: Agent, key: PRNGKeyArray, epsilon: Float[Array, ""]) -> Rollout:
    """A block of episodes in which each agent acts at random with probability ε."""
    keys = jax.random.split(key, BLOCK)
    return collect(env, agent, lambda k, q, avail: explore.epsilon_greedy(k, q, avail, epsilon), keys, any_over_seeds)
