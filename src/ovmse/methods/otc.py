"""Prioritised offline data: the logged episodes that the team would still play are drawn most.

Inferred from the name of the method alone, whose paper was looked for and not found: offline trajectories are chosen
by how well they agree with the team as it learns. The measure of agreement is ours.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.core.action_selection import greedy
from ovmse.core.padding import has_choice
from ovmse.core.schedules import linear
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_above_zero
from ovmse.methods.signatures import LossInputs


@dataclass(frozen=True)
class Agreement:
    """`least` + the share of logged actions that are the team's greedy ones, among actions that were a choice."""

    least: float | int = 0.05

    def __post_init__(self) -> None:
        check_above_zero("the least priority", self.least)

    def __call__(self, inputs: LossInputs) -> Float[Array, ""]:
        episode = inputs.episode
        avail = episode.avail[:-1]
        choice = has_choice(avail) & episode.valid[:, None]
        same = greedy(inputs.values.online.acting[:-1], avail) == episode.action
        return self.least + (same & choice).sum() / jnp.maximum(1, choice.sum())


OTC = replace(FINETUNE, offline_share=linear(0.5, 0.1), priority=Agreement())
