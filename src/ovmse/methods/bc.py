"""Behaviour cloning: each agent learns to do what the log did (Pomerleau 1988); no values, and so no online phase."""

from dataclasses import dataclass

from ovmse.core import values
from ovmse.core.networks import Parts, chosen
from ovmse.methods.method import Method
from ovmse.methods.signatures import LossInputs, PerStep


@dataclass(frozen=True)
class Imitate:
    """−Σ_i log π_i(u_i | τ_i), over the legal actions; an agent without a choice adds nothing."""

    learns, needs = "policy", ("policy",)

    def __call__(self, inputs: LossInputs) -> PerStep:
        return -chosen(values.log_policy_at_steps(inputs.values, inputs.episode), inputs.episode.action).sum(axis=-1)


BC = Method(offline_loss=Imitate(), parts=Parts(policy=True))
