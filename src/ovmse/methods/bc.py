"""Behaviour cloning: each agent learns to do what the log did (Pomerleau 1988); no values, and so no online phase."""

from dataclasses import dataclass

from ovmse import values
from ovmse.context import Context, PerStep
from ovmse.method import Method, Parts
from ovmse.networks import chosen


@dataclass(frozen=True)
class Imitate:
    """−Σ_i log π_i(u_i | τ_i), over the legal actions; an agent without a choice adds nothing."""

    learns, needs = "policy", ("policy",)

    def __call__(self, context: Context) -> PerStep:
        return -chosen(values.log_policy_at_steps(context.values, context.episode), context.episode.action).sum(axis=-1)


BC = Method(offline_loss=Imitate(), parts=Parts(policy=True))
