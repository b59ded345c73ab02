"""How a team explores: one formula, one function, one step.

Each takes the key of this step, which every agent derives from the episode's shared seed and the step's number,
so that a decentralised team agrees on whose turn it is without a message. Nobody's turn depends on who is dead or
gone: the others' rates stay as they are, and a turn of the dead is nobody's.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


def greedy(q: Float[Array, "*b N A"], avail: Bool[Array, "*b N A"]) -> Int[Array, "*b N"]:
    """Each agent's legal action of highest utility."""
    return jnp.argmax(jnp.where(avail, q, -jnp.inf), axis=-1)


def random_legal(key: PRNGKeyArray, avail: Bool[Array, "N A"]) -> Int[Array, " N"]:
    """A uniformly random legal action for each agent."""
    return jnp.argmax(jnp.where(avail, jax.random.uniform(key, avail.shape), -1.0), axis=-1)


def epsilon_greedy(
    key: PRNGKeyArray, q: Float[Array, "N A"], avail: Bool[Array, "N A"], epsilon: Float[Array, ""]
) -> Int[Array, " N"]:
    """Each agent on its own acts at random with probability ε."""
    k_turn, k_action = jax.random.split(key)
    turn = jax.random.uniform(k_turn, (q.shape[0],)) < epsilon
    return jnp.where(turn, random_legal(k_action, avail), greedy(q, avail))


def sequential(
    key: PRNGKeyArray, q: Float[Array, "N A"], avail: Bool[Array, "N A"], epsilon: Float[Array, ""]
) -> Int[Array, " N"]:
    """Sequential Exploration (OVMSE, Zhong et al. 2024): with probability ε one agent, drawn uniformly, acts at
    random; all others are greedy. A step thus reaches N(A − 1) + 1 joint actions instead of A^N."""
    k_turn, k_agent, k_action = jax.random.split(key, 3)
    n_agents = q.shape[0]
    explorer = jax.random.randint(k_agent, (), 0, n_agents)
    turn = (jnp.arange(n_agents) == explorer) & (jax.random.uniform(k_turn) < epsilon)
    return jnp.where(turn, random_legal(k_action, avail), greedy(q, avail))


def independent(
    key: PRNGKeyArray, q: Float[Array, "N A"], avail: Bool[Array, "N A"], epsilon: Float[Array, ""]
) -> Int[Array, " N"]:
    """The form without a shared seed: each agent explores alone with probability ε/N, the same rate per agent as
    `sequential`, but several may explore at once."""
    return epsilon_greedy(key, q, avail, epsilon / q.shape[0])
