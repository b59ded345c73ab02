"""Sim2O (Song and Yang 2026, arXiv 2606.21085): joint actions put together from offline and online proposals.

From the abstract, the introduction and figure 1: each agent has a proposal of a frozen offline policy and one of the
learning online policy, and a beam search under the centralised value picks the combination. Inferred by us: proposals
are greedy (the online one explores); the search goes through the agents in order; and the frozen Q_tot has a share in
the central value, because the online Q_tot alone, monotone as it is, lets every agent decide by its own Q_i.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse.core import action_selection
from ovmse.core.errors import check_positive, check_share
from ovmse.core.mixers import mix
from ovmse.core.networks import chosen
from ovmse.core.values import Scalar
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.signatures import ActionInputs, Explore, PolicyOutput


@dataclass(frozen=True)
class Blend:
    """The combination of both teams' proposals of highest central value, found with `beam` partial ones at a time.

    online: how the online proposal explores. frozen: the frozen team's share in the central value.
    """

    online: Explore = FINETUNE.explore
    beam: int = 4
    frozen: float | int = 0.5
    uses_offline_team, compares_q_tot = True, True

    def __post_init__(self) -> None:
        check_positive("Sim2O's beam", float(self.beam))
        check_share("the frozen team's share in the central value", self.frozen)

    def __call__(self, key: PRNGKeyArray, inputs: ActionInputs) -> Int[Array, " N"]:
        assert inputs.offline is not None
        kept = action_selection.greedy(inputs.offline.heads.acting, inputs.avail)
        return beam_search(inputs, self.online(key, inputs), kept, self.beam, self.frozen)


def central_value(inputs: ActionInputs, joint: Int[Array, "K N"], frozen: Scalar) -> Float[Array, " K"]:
    """(1 − frozen) Q_tot of the online team + frozen · Q_tot of the frozen one, of each joint action."""
    assert inputs.offline is not None

    def q_tot(output: PolicyOutput) -> Float[Array, " K"]:
        q = jnp.broadcast_to(output.heads.q, (*joint.shape, output.heads.q.shape[-1]))
        return mix(output.weights, chosen(q, joint))

    return (1.0 - frozen) * q_tot(inputs.online) + frozen * q_tot(inputs.offline)


def beam_search(
    inputs: ActionInputs, online: Int[Array, " N"], kept: Int[Array, " N"], beam: int, frozen: Scalar
) -> Int[Array, " N"]:
    """Agent after agent, both proposals on top of the best `beam` joint actions so far; who has not had its turn keeps
    to the offline one. Where both proposals are the same, nothing is added, so that no place is taken twice."""
    joint, differs = kept[None], jnp.ones(1, bool)
    for i in range(len(kept)):
        joint = jnp.concatenate([joint, joint.at[:, i].set(online[i])])
        differs = jnp.concatenate([differs, differs & (online[i] != kept[i])])
        worth = jnp.where(differs, central_value(inputs, joint, frozen), -jnp.inf)
        best = jnp.argsort(-worth)[:beam]
        joint, differs = joint[best], differs[best]
    return joint[0]


SIM2O = replace(FINETUNE, explore=Blend())
