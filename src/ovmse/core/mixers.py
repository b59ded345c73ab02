"""How utilities become Q_tot: QMIX, a linear mixer, and VDN; all increase in every utility."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ovmse.core.literals import MixerName
from ovmse.core.types import EnvSpec


class QMIX(eqx.Module):
    """The monotone mixer: hypernetworks of the state give its weights (Rashid et al. 2018, section 4).

    With weights W1 = |h_w1(s)| [N, M], b1 = h_b1(s) [M], w2 = |h_w2(s)| [M], b2 = h_b2(s) it computes
    Q_tot = elu(Q W1 + b1) · w2 + b2. The absolute values make it increase in every utility.
    """

    w1: tuple[eqx.nn.Linear, eqx.nn.Linear]  # S → E → N·M
    b1: eqx.nn.Linear  # S → M
    w2: tuple[eqx.nn.Linear, eqx.nn.Linear]  # S → E → M
    b2: tuple[eqx.nn.Linear, eqx.nn.Linear]  # S → M → 1

    def __init__(self, spec: EnvSpec, embedding: int, hyper: int, *, key: PRNGKeyArray):
        k = jax.random.split(key, 7)
        s, m = spec.state_size, embedding
        self.w1 = eqx.nn.Linear(s, hyper, key=k[0]), eqx.nn.Linear(hyper, spec.n_agents * m, key=k[1])
        self.b1 = eqx.nn.Linear(s, m, key=k[2])
        self.w2 = eqx.nn.Linear(s, hyper, key=k[3]), eqx.nn.Linear(hyper, m, key=k[4])
        self.b2 = eqx.nn.Linear(s, m, key=k[5]), eqx.nn.Linear(m, 1, key=k[6])


class LinearMixer(eqx.Module):
    """Q_tot = Σ_i |w_i(s)| Q_i + b(s): the mixer of ICQ-MA (Yang et al. 2021) and OMIGA (Wang et al. 2023)."""

    w: tuple[eqx.nn.Linear, eqx.nn.Linear]  # S → E → N
    b: tuple[eqx.nn.Linear, eqx.nn.Linear]  # S → E → 1

    def __init__(self, spec: EnvSpec, hyper: int, *, key: PRNGKeyArray):
        k = jax.random.split(key, 4)
        self.w = eqx.nn.Linear(spec.state_size, hyper, key=k[0]), eqx.nn.Linear(hyper, spec.n_agents, key=k[1])
        self.b = eqx.nn.Linear(spec.state_size, hyper, key=k[2]), eqx.nn.Linear(hyper, 1, key=k[3])


class VDN(eqx.Module):
    """The sum of the utilities (Sunehag et al. 2018); it has no parameters."""


Mixer = QMIX | LinearMixer | VDN


class QWeights(NamedTuple):
    """QMIX's weights at some rows of an episode: they depend on the state alone, so one evaluation serves any number
    of joint actions."""

    w1: Float[Array, "*rows N M"]
    b1: Float[Array, "*rows M"]
    w2: Float[Array, "*rows M"]
    b2: Float[Array, "*rows"]


class LinearWeights(NamedTuple):
    """A linear mixer's weights at some rows of an episode."""

    w: Float[Array, "*rows N"]
    b: Float[Array, "*rows"]


MixWeights = QWeights | LinearWeights | None
"""A mixer's weights at some rows of an episode; None for VDN where all agents are present: each has the weight 1."""


def make_mixer(spec: EnvSpec, name: MixerName, embedding: int, hyper: int, *, key: PRNGKeyArray) -> Mixer:
    """A fresh mixer. embedding: units of QMIX's mixing layer (M); hyper: units of the hypernetworks (E)."""
    if name == "qmix":
        return QMIX(spec, embedding, hyper, key=key)
    return LinearMixer(spec, hyper, key=key) if name == "linear" else VDN()


def product(weight: Float[Array, "*n J I"], x: Float[Array, "*rows I"]) -> Float[Array, "*rows J"]:
    """``x Wᵀ`` over any leading axes; by weights [N, J, I] each agent's own, whose axis is the last of these."""
    return x @ weight.T if weight.ndim == 2 else jnp.einsum("...ni,nji->...nj", x, weight)


def affine(layer: eqx.nn.Linear, x: Float[Array, "*rows I"]) -> Float[Array, "*rows J"]:
    """``x Wᵀ + b`` over any leading axes: one matrix product, where mapping the layer would transpose."""
    assert layer.bias is not None
    return product(layer.weight, x) + layer.bias


def weights_at(
    mixer: Mixer, state: Float[Array, "*rows S"], present: Bool[Array, "*rows N"] | None = None
) -> MixWeights:
    """The mixer's weights at the given states. An agent that is not present (`core.padding.present`) has the weight 0,
    as REFIL has it (Iqbal et al. 2021), so that Q_tot does not depend on its utilities; None: all are."""

    def hyper(layers: tuple[eqx.nn.Linear, eqx.nn.Linear]) -> Float[Array, "*rows J"]:
        return affine(layers[1], jax.nn.relu(affine(layers[0], state)))

    def of_present(weights: Float[Array, "*rows N"]) -> Float[Array, "*rows N"]:
        return weights if present is None else jnp.where(present, weights, 0.0)

    if isinstance(mixer, QMIX):
        w1 = jnp.abs(hyper(mixer.w1)).reshape(*state.shape[:-1], -1, mixer.b1.out_features)
        return QWeights(
            w1=w1 if present is None else jnp.where(present[..., None], w1, 0.0),
            b1=affine(mixer.b1, state),
            w2=jnp.abs(hyper(mixer.w2)),
            b2=hyper(mixer.b2)[..., 0],
        )
    if isinstance(mixer, LinearMixer):
        return LinearWeights(of_present(jnp.abs(hyper(mixer.w))), hyper(mixer.b)[..., 0])
    return (
        None
        if present is None
        else LinearWeights(present.astype(state.dtype), jnp.zeros(state.shape[:-1], state.dtype))
    )


def mix(weights: MixWeights, q: Float[Array, "*rows N"]) -> Float[Array, "*rows"]:
    """Q_tot of chosen utilities, one per agent; without weights (VDN) their sum."""
    if weights is None:
        return q.sum(axis=-1)
    if isinstance(weights, LinearWeights):
        return (q * weights.w).sum(axis=-1) + weights.b
    hidden = jax.nn.elu(jnp.einsum("...n,...nm->...m", q, weights.w1) + weights.b1)
    return (hidden * weights.w2).sum(axis=-1) + weights.b2


def agent_mean(x: Float[Array, "*rows N"], present: Bool[Array, "*rows N"] | None = None) -> Float[Array, "*rows"]:
    """The mean over the agents that are present; 0 where nobody is. None: all are."""
    if present is None:
        return x.mean(axis=-1)
    return jnp.where(present, x, 0.0).sum(axis=-1) / jnp.maximum(1, present.sum(axis=-1))


def share_of(weights: MixWeights, q: Float[Array, "*rows N"]) -> Float[Array, "*rows N"]:
    """∂Q_tot/∂Q_i ≥ 0 at the chosen utilities: how much an agent's utility counts (a linear mixer's w_i)."""
    return jax.grad(lambda q: mix(weights, q).sum())(q)
