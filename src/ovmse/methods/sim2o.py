"""Sim2O (Song and Yang 2026, arXiv 2606.21085): joint actions put together from offline and online proposals.

From the abstract: each agent's frozen offline and learning online proposal are blended, and a beam search under the
central value picks the combination. Inferred by us: proposals are greedy (the online one explores); the search goes
through the agents in order; and the central value is the mean of the online and the frozen Q_tot, because a search
under one monotone Q_tot always takes that network's own proposals.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse import explore
from ovmse.context import Explore, Sight
from ovmse.errors import check_positive
from ovmse.methods.finetune import FINETUNE
from ovmse.mixers import mix
from ovmse.networks import chosen


@dataclass(frozen=True)
class Blend:
    """The combination of both teams' proposals of highest central value, found with `beam` partial ones at a time.

    online: how the online proposal explores.
    """

    online: Explore = FINETUNE.explore
    beam: int = 4
    guided = True

    def __post_init__(self) -> None:
        check_positive("Sim2O's beam", float(self.beam))

    def __call__(self, key: PRNGKeyArray, sight: Sight) -> Int[Array, " N"]:
        assert sight.offline is not None
        kept = explore.greedy(sight.offline.heads.acting, sight.avail)
        return beam_search(sight, self.online(key, sight), kept, self.beam)


def central_value(sight: Sight, joint: Int[Array, "K N"]) -> Float[Array, " K"]:
    """The mean of the online and the frozen team's Q_tot of each joint action."""
    assert sight.offline is not None

    def q_tot(voice) -> Float[Array, " K"]:
        q = jnp.broadcast_to(voice.heads.q, (*joint.shape, voice.heads.q.shape[-1]))
        return mix(voice.weights, chosen(q, joint))

    return 0.5 * (q_tot(sight.online) + q_tot(sight.offline))


def beam_search(sight: Sight, online: Int[Array, " N"], kept: Int[Array, " N"], beam: int) -> Int[Array, " N"]:
    """Agent after agent, both proposals on top of the best `beam` joint actions so far; who has not had its turn keeps
    to the offline one."""
    joint = kept[None]
    for i in range(len(kept)):
        joint = jnp.concatenate([joint, joint.at[:, i].set(online[i])])
        best = jnp.argsort(-central_value(sight, joint))[:beam]
        joint = joint[best]
    return joint[0]


SIM2O = replace(FINETUNE, explore=Blend())
