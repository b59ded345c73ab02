"""Evaluation: how good a team is when it explores no more."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from ovmse.rollout import Rollout


class Scores(NamedTuple):
    """One number per evaluated episode (leading axis B, or seeds and B)."""

    returns: Float[Array, "*seeds B"]
    won: Bool[Array, "*seeds B"]
    length: Int[Array, "*seeds B"]


def scores(rollout: Rollout) -> Scores:
    """Undiscounted return, win and length of each episode."""
    return Scores(rollout.episodes.reward.sum(axis=-1), rollout.won, rollout.episodes.valid.sum(axis=-1))
