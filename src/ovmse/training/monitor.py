"""The unlearning monitor: how far the team is from the one frozen at the handover, on the same steps of the dataset."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ovmse.core.action_selection import greedy
from ovmse.core.mixers import mix, weights_at
from ovmse.core.networks import Heads, Team, chosen, unroll
from ovmse.core.padding import has_choice, present
from ovmse.core.types import Episode
from ovmse.learning import replay as replays
from ovmse.learning.replay import Replay

EPISODES = 64  # the dataset's first episodes, on which a run is watched


class MonitorReading(NamedTuple):
    """One look at the monitored steps; nan where there is no such number.

    q_tot, frozen: mean Q_tot at the logged joint actions, of the team and of the frozen one. drift, relative_drift: see
    `drift`. agreement: see `agreement`.
    """

    q_tot: Float[Array, ""]
    frozen: Float[Array, ""]
    drift: Float[Array, ""]
    relative_drift: Float[Array, ""]
    agreement: Float[Array, ""]


def mean_over(x: Float[Array, "*b T"], counted: Bool[Array, "*b T"]) -> Float[Array, ""]:
    """The mean of a number over the steps that count; nan where none does."""
    return jnp.where(counted, x, 0.0).sum() / counted.sum()


def drift(
    q_tot: Float[Array, "*b T"], frozen: Float[Array, "*b T"], counted: Bool[Array, "*b T"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How far Q_tot has moved from the frozen value at the same steps: mean(Q − Q_off), in reward units and below zero
    where values were lost, and that as a share of mean |Q_off| (nan where that is 0)."""
    moved = mean_over(q_tot - frozen, counted)
    return moved, moved / jnp.where((size := mean_over(jnp.abs(frozen), counted)) > 0, size, jnp.nan)


def agreement(
    acting: Float[Array, "*b T N A"],
    frozen: Float[Array, "*b T N A"],
    avail: Bool[Array, "*b T N A"],
    counted: Bool[Array, "*b T"],
) -> Float[Array, ""]:
    """The share of agents' greedy actions that are the frozen team's, over the steps that count and the agents that
    have a choice there (two legal actions or more); nan where nobody has one.

    acting, frozen: what each team acts by, utilities or a policy's logits.
    """
    choice = counted[..., None] & has_choice(avail)
    return mean_over((greedy(acting, avail) == greedy(frozen, avail)).astype(jnp.float32), choice)


def watch(team: Team, frozen: Team, data: Replay, steps: int, episodes: int = EPISODES) -> MonitorReading:
    """Look at a team and at the frozen one on the dataset's first `episodes` episodes: one pass of each.

    steps: those of the dataset's longest episode.
    """
    slots = jnp.arange(min(episodes, data.index.start.shape[0]))
    read = replays.read_all(data, slots, steps)[0]
    look = jax.vmap(_look, in_axes=(None, 0))
    (q_tot, heads), (frozen_q_tot, frozen_heads) = look(team, read), look(frozen, read)
    moved, relative = drift(q_tot, frozen_q_tot, read.valid)
    same = agreement(heads.acting, frozen_heads.acting, read.avail[:, :-1], read.valid)
    return MonitorReading(mean_over(q_tot, read.valid), mean_over(frozen_q_tot, read.valid), moved, relative, same)


def _look(team: Team, episode: Episode) -> tuple[Float[Array, " T"], Heads]:
    """Q_tot at the taken joint actions, and what the agents' heads say, at steps 0 … T-1."""
    heads = jax.tree.map(lambda x: x[:-1], unroll(team.agent, episode))
    there = present(episode.obs, episode.avail)[:-1]
    return mix(weights_at(team.mixer, episode.state[:-1], there), chosen(heads.q, episode.action)), heads
