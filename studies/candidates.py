"""Candidates to beat OVMSE: other ways to choose who explores and how, and other memories, one change each.

    PYTHONPATH=studies ovmse train --method candidates:HESITANT --env smax:3m --data smax-3m-medium --seeds 4

docs/results.md has what came of them. None is in `METHODS`, because none was better beyond the noise.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ovmse.core import action_selection, values
from ovmse.core.networks import Team, unroll
from ovmse.core.schedules import Schedule, linear
from ovmse.core.types import Episode
from ovmse.methods.ovmse import OVMSE
from ovmse.methods.signatures import ActionInputs, PerStep

GAMMA = 0.99


def one_explores(inputs: ActionInputs, who: Array, turn: Array, action: Int[Array, " N"]) -> Int[Array, " N"]:
    """Agent `who` takes its `action` where it is its turn; all others act greedily."""
    mine = (jnp.arange(len(action)) == who) & turn
    return jnp.where(mine, action, action_selection.greedy(inputs.q, inputs.avail))


def is_time(key: PRNGKeyArray, epsilon: Schedule, inputs: ActionInputs) -> Array:
    """Whether anybody explores in this step."""
    return jax.random.uniform(key) < epsilon(inputs.progress)


@dataclass(frozen=True)
class Careful:
    """The one that explores draws its action by softmax of its utilities / temperature, not uniformly."""

    epsilon: Schedule
    temperature: float = 0.5

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        k_turn, k_agent, k_action = jax.random.split(key, 3)
        who, turn = jax.random.randint(k_agent, (), 0, len(inputs.q)), is_time(k_turn, self.epsilon, inputs)
        masked = jnp.where(inputs.avail, inputs.q / self.temperature, -jnp.inf)
        return one_explores(inputs, who, turn, jax.random.categorical(k_action, masked, axis=-1))


@dataclass(frozen=True)
class Hesitant:
    """The agent whose two best actions lie closest explores, by softmax of minus the gap / temperature."""

    epsilon: Schedule
    temperature: float = 0.2

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        k_turn, k_agent, k_action = jax.random.split(key, 3)
        best = jax.lax.top_k(values.mask_illegal(inputs.q, inputs.avail), 2)[0]
        gap = jnp.where(inputs.avail.sum(axis=-1) > 1, best[:, 0] - best[:, 1], -values.ILLEGAL)
        who = jax.random.categorical(k_agent, -gap / self.temperature)
        turn = is_time(k_turn, self.epsilon, inputs)
        return one_explores(inputs, who, turn, action_selection.random_legal(k_action, inputs.avail))


@dataclass(frozen=True)
class Counterfactual:
    """One deviation of one agent from the greedy joint action, by softmax of its Q_tot / temperature."""

    epsilon: Schedule
    temperature: float = 0.5

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        k_turn, k_which = jax.random.split(key)
        best = action_selection.greedy(inputs.q, inputs.avail)
        weights = jax.tree.map(lambda x: x[None], inputs.online.weights)
        q_tot = values.counterfactual_q_tot(weights, inputs.online.heads.q[None], best[None])[0]
        other = inputs.avail & (jnp.arange(q_tot.shape[1]) != best[:, None])
        which = jax.random.categorical(k_which, values.mask_illegal(q_tot / self.temperature, other).reshape(-1))
        turn = is_time(k_turn, self.epsilon, inputs) & other.any()
        return one_explores(inputs, which // q_tot.shape[1], turn, jnp.full_like(best, which % q_tot.shape[1]))


def brought(team: Team, episode: Episode) -> PerStep:
    """G: what the episode brought from the step on, whatever the offline team thinks of it."""
    return values.returns_to_go(episode.reward, episode.terminal, episode.valid, GAMMA)


def offline_or_brought(team: Team, episode: Episode) -> PerStep:
    """max(Q_off,tot, G): the better of the offline value and of what the episode brought from the step on."""
    return jnp.maximum(values.taken_q_tot(team, episode), brought(team, episode))


def trusted(team: Team, episode: Episode) -> PerStep:
    """Q_off,tot where the episode brought as much; else what it brought, but no less than half of Q_off,tot."""
    q_tot = values.taken_q_tot(team, episode)
    return jnp.minimum(q_tot, jnp.maximum(brought(team, episode), 0.5 * q_tot))


def covered(team: Team, episode: Episode) -> PerStep:
    """Q_off,tot, less half of its size where no agent did what the offline team would have done, in between by share.

    What the log covers well is near what that team does; what it says of other actions it had to make up.
    """
    q = unroll(team.agent, episode)
    likely = action_selection.greedy(q.acting, episode.avail)[:-1] == episode.action
    q_tot = values.taken_q_tot(team, episode)
    return q_tot - 0.5 * (1 - likely.mean(axis=-1)) * jnp.abs(q_tot)


CAREFUL = replace(OVMSE, explore=Careful(linear(1.0, 0.1), 0.5))
HESITANT = replace(OVMSE, explore=Hesitant(linear(0.3, 0.05)))
COUNTERFACTUAL = replace(OVMSE, explore=Counterfactual(linear(0.5, 0.05)))
RETURNS = replace(OVMSE, memory=brought)
BROUGHT = replace(OVMSE, memory=offline_or_brought)
COVERED = replace(OVMSE, memory=covered)
TRUSTED = replace(OVMSE, memory=trusted)
MORE_DATA = replace(OVMSE, offline_share=linear(0.5, 0.1))
