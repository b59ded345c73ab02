"""Cal-QL (Nakamoto et al. 2023) for a team: conservative, but never below what the log's own play brought."""

from dataclasses import dataclass, replace

import jax.numpy as jnp

from ovmse.core import values
from ovmse.core.mixers import agent_mean
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.losses import check_strength, squared_error
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class CalibratedCQL:
    """(Q_tot − y)² + α (1/N) Σ_i [logsumexp over legal a of max(Q_tot(a, u_−i), G) − Q_tot(u)].

    G is the return from the step on in the same episode, a sample of the behaviour's value. That of a cut episode is
    not known, and holds nothing up: a return that stops at the limit is another task's, and one that goes on with Q̄_tot
    would hold values up by themselves. The paper compares one agent's Q(s, a); values of the team need the
    counterfactual form, since utilities are no returns.
    """

    alpha: float | int = 1.0

    def __post_init__(self) -> None:
        check_strength("Cal-QL's alpha", self.alpha)

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, episode = inputs.values, inputs.episode
        brought = values.returns_to_go(episode.reward, episode.terminal, episode.valid, inputs.gamma)
        ends = values.returns_to_go(episode.terminal.astype(brought.dtype), episode.terminal, episode.valid, 1.0) > 0
        known = jnp.where(ends, brought, values.ILLEGAL)
        gaps = values.counterfactual_gaps(v.weights, v.q, episode.avail[:-1], episode.action, least=known)
        return squared_error(inputs) + self.alpha * agent_mean(gaps, v.present[:-1])


CALQL = replace(FINETUNE, offline_loss=CalibratedCQL(), online_loss=CalibratedCQL())
