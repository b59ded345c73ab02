"""The team's networks: a recurrent agent that all share, and the mixers QMIX and VDN.

Every function takes one episode; whoever calls maps over batch and seeds. Layers are stored as
`equinox.nn.Linear` (weight ``[out, in]``, bias ``[out]``) and `equinox.nn.GRUCell` (``weight_ih [3H, in]``,
``weight_hh [3H, H]``, gates in the order reset, update, new; ``bias [3H]`` on the input side and ``bias_n [H]``
on the hidden side of the new gate). `docs/parameters.md` lists every array.
"""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from ovmse.types import EnvSpec, Episode


class Agent(eqx.Module):
    """The recurrent utility network, shared by all agents: linear → ReLU → GRU → linear."""

    encoder: eqx.nn.Linear  # O + N + A → H
    cell: eqx.nn.GRUCell  # H → H
    head: eqx.nn.Linear  # H → A

    def __init__(self, spec: EnvSpec, hidden: int, *, key: PRNGKeyArray):
        k_encoder, k_cell, k_head = jax.random.split(key, 3)
        inputs = spec.obs_size + spec.n_agents + spec.n_actions
        self.encoder = eqx.nn.Linear(inputs, hidden, key=k_encoder)
        self.cell = eqx.nn.GRUCell(hidden, hidden, key=k_cell)
        self.head = eqx.nn.Linear(hidden, spec.n_actions, key=k_head)


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


class VDN(eqx.Module):
    """The sum of the utilities (Sunehag et al. 2018); it has no parameters."""


Mixer = QMIX | VDN
MixerName = Literal["qmix", "vdn"]


class Team(eqx.Module):
    """Everything that is learned: the agents' network and the mixer."""

    agent: Agent
    mixer: Mixer


class MixWeights(eqx.Module):
    """A mixer's weights at some rows of an episode: they depend on the state alone, so one evaluation serves
    any number of joint actions."""

    w1: Float[Array, "*rows N M"]
    b1: Float[Array, "*rows M"]
    w2: Float[Array, "*rows M"]
    b2: Float[Array, "*rows"]


def make_team(spec: EnvSpec, *, mixer: MixerName, hidden: int, embedding: int, hyper: int, key: PRNGKeyArray) -> Team:
    """Fresh networks for an environment of the given sizes.

    Every weight and bias is uniform within ± 1/√(inputs of its layer), a recurrent layer's within ± 1/√H, as Equinox's
    layers have it; but all are drawn at once, where a draw per layer takes seconds to compile.
    """

    def layers(key: PRNGKeyArray) -> Team:
        mixing = QMIX(spec, embedding, hyper, key=key) if mixer == "qmix" else VDN()
        return Team(Agent(spec, hidden, key=key), mixing)

    def is_layer(x: object) -> bool:
        return isinstance(x, eqx.nn.Linear | eqx.nn.GRUCell)

    def bounds(layer: eqx.nn.Linear | eqx.nn.GRUCell) -> PyTree:
        inputs = layer.weight_hh.shape[1] if isinstance(layer, eqx.nn.GRUCell) else layer.weight.shape[1]
        return jax.tree.map(lambda x: np.full(x.shape, 1 / math.sqrt(inputs), np.float32), layer)

    bound = jax.tree.map(bounds, eqx.filter_eval_shape(layers, key), is_leaf=is_layer)
    flat, unravel = ravel_pytree(bound)
    return unravel(flat * jax.random.uniform(key, flat.shape, minval=-1.0))


def affine(layer: eqx.nn.Linear, x: Float[Array, "*rows I"]) -> Float[Array, "*rows J"]:
    """``x Wᵀ + b`` over any leading axes: one matrix product, where mapping the layer would transpose."""
    assert layer.bias is not None
    return x @ layer.weight.T + layer.bias


def gru(cell: eqx.nn.GRUCell, h: Float[Array, "*rows H"], x: Float[Array, "*rows I"]) -> Float[Array, "*rows H"]:
    """One step of a gated recurrent unit (Cho et al. 2014): the state after input x."""
    assert cell.bias is not None and cell.bias_n is not None
    r_x, z_x, n_x = jnp.split(x @ cell.weight_ih.T + cell.bias, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(h @ cell.weight_hh.T, 3, axis=-1)
    reset = jax.nn.sigmoid(r_x + r_h)
    update = jax.nn.sigmoid(z_x + z_h)
    new = jnp.tanh(n_x + reset * (n_h + cell.bias_n))
    return new + update * (h - new)


def encode(
    agent: Agent, obs: Float[Array, "*rows N O"], last_action: Float[Array, "*rows N A"]
) -> Float[Array, "*rows N H"]:
    """What the recurrent layer is fed: it needs no memory, so all rows of an episode can be encoded at once.

    The encoder's inputs are the observation, the agent's index and its last action (one-hot, all zeros at an episode's
    first row). Each has its own columns of the weights; putting them side by side first would copy every observation.
    """
    n, o = obs.shape[-2:]
    seen, index, acted = jnp.split(agent.encoder.weight, [o, o + n], axis=1)
    assert agent.encoder.bias is not None
    return jax.nn.relu(obs @ seen.T + last_action @ acted.T + (index.T + agent.encoder.bias))


def recur(
    agent: Agent, hidden: Float[Array, "*b N H"], encoded: Float[Array, "*b N H"]
) -> tuple[Float[Array, "*b N H"], Float[Array, "*b N A"]]:
    """One row for all agents: the next hidden state and the utilities of every action."""
    hidden = gru(agent.cell, hidden, encoded)
    return hidden, affine(agent.head, hidden)


def agent_step(
    agent: Agent,
    hidden: Float[Array, "*b N H"],
    obs: Float[Array, "*b N O"],
    last_action: Float[Array, "*b N A"],
) -> tuple[Float[Array, "*b N H"], Float[Array, "*b N A"]]:
    """One row for all agents, from what they see: the next hidden state and the utilities of every action."""
    return recur(agent, hidden, encode(agent, obs, last_action))


def first_hidden(agent: Agent, n_agents: int) -> Float[Array, "N H"]:
    """The hidden state before an episode's first row."""
    return jnp.zeros((n_agents, agent.cell.hidden_size))


def last_actions(action: Int[Array, "T N"], n_actions: int) -> Float[Array, "T1 N A"]:
    """One-hot of the action before each row; zeros before the first."""
    one_hot = jax.nn.one_hot(action, n_actions)
    return jnp.concatenate([jnp.zeros_like(one_hot[:1]), one_hot])


def unroll(agent: Agent, episode: Episode) -> Float[Array, "T1 N A"]:
    """Utilities Q_i(τ_i, ·) at every row of an episode."""

    def step(hidden, encoded):
        return recur(agent, hidden, encoded)

    _, n_agents, n_actions = episode.avail.shape
    encoded = encode(agent, episode.obs, last_actions(episode.action, n_actions))
    return jax.lax.scan(step, first_hidden(agent, n_agents), encoded)[1]


def mix_weights(mixer: QMIX, state: Float[Array, "*rows S"]) -> MixWeights:
    """The mixer's weights at the given states."""
    m = mixer.b1.out_features

    def hyper(layers: tuple[eqx.nn.Linear, eqx.nn.Linear]) -> Float[Array, "*rows J"]:
        return affine(layers[1], jax.nn.relu(affine(layers[0], state)))

    return MixWeights(
        w1=jnp.abs(hyper(mixer.w1)).reshape(*state.shape[:-1], -1, m),
        b1=affine(mixer.b1, state),
        w2=jnp.abs(hyper(mixer.w2)),
        b2=hyper(mixer.b2)[..., 0],
    )


def mix(weights: MixWeights | None, q: Float[Array, "*rows N"]) -> Float[Array, "*rows"]:
    """Q_tot of chosen utilities, one per agent; without weights (VDN) their sum."""
    if weights is None:
        return q.sum(axis=-1)
    hidden = jax.nn.elu(jnp.einsum("...n,...nm->...m", q, weights.w1) + weights.b1)
    return (hidden * weights.w2).sum(axis=-1) + weights.b2


def weights_at(mixer: Mixer, state: Float[Array, "*rows S"]) -> MixWeights | None:
    """The mixer's weights at the given states; None for VDN, which has none."""
    return mix_weights(mixer, state) if isinstance(mixer, QMIX) else None


def chosen(q: Shaped[Array, "*rows N A"], action: Int[Array, "*rows N"]) -> Shaped[Array, "*rows N"]:
    """Each agent's utility of its given action."""
    return jnp.take_along_axis(q, action[..., None].astype(jnp.int32), axis=-1)[..., 0]
