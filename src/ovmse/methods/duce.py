"""DUCE: the offline team guides a new one ever less, and the new one is conservative ever less.

From the abstract (*One Policy Learns Them All*, submitted to ICLR 2026): guidance by a prior policy whose horizon
shrinks, and an offline regulariser on the online loss that decays. Inferred by us: the guidance of JSRL, the penalty of
CFCQL with equal weights, and both schedules; the paper also draws at random whether the prior plays.
"""

from dataclasses import dataclass, replace

from ovmse.core import values
from ovmse.core.schedules import Schedule, check_schedule, linear
from ovmse.methods.jsrl import JSRL
from ovmse.methods.losses import squared_error
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class DecayingPenalty:
    """(Q_tot − y)² + α(progress) Σ_i (1/N) [logsumexp over legal a of Q_tot(a, u_−i) − Q_tot(u)]."""

    alpha: Schedule = linear(1.0, 0.0, share=0.5)

    def __post_init__(self) -> None:
        check_schedule("DUCE's alpha", self.alpha)
        self.alpha.check_within("DUCE's alpha", 0.0, float("inf"))

    def __call__(self, inputs: LossInputs) -> PerStep:
        v, avail, action = inputs.values, inputs.episode.avail[:-1], inputs.episode.action
        penalty = values.cql_counterfactual(v.weights, v.q, avail, action, v.present[:-1])
        return squared_error(inputs) + self.alpha(inputs.progress) * penalty


DUCE = replace(JSRL, online_loss=DecayingPenalty())
