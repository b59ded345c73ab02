"""The team's networks: a recurrent agent that all share or that each kind of agents has, and a mixer (`core.mixers`).

Every function takes one episode; whoever calls maps over batch and seeds. Layers are stored as
`equinox.nn.Linear` (weight ``[out, in]``, bias ``[out]``) and `equinox.nn.GRUCell` (``weight_ih [3H, in]``,
``weight_hh [3H, H]``, gates in the order reset, update, new; ``bias [3H]`` on the input side and ``bias_n [H]``
on the hidden side of the new gate). `docs/parameters.md` lists every array.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

from ovmse.core.errors import UserError, check_known
from ovmse.core.literals import MixerName
from ovmse.core.mixers import Mixer, affine, make_mixer, product
from ovmse.core.types import EnvSpec, Episode


@dataclass(frozen=True)
class Parts:
    """What a method's networks consist of, beside the utilities that all have.

    Args:
        mixer: how utilities become Q_tot, where the configuration does not say.
        policy: a head of action logits, by which the team then acts.
        value: a head with one V_i per agent.
        critics: sets of utilities on one recurrent layer; the team acts by their mean.
        normalise: layer normalisation of what the recurrent layer is fed and of what it puts out.
        behaviour: a head that learns who played the dataset, and from which nothing else learns.
        ratio: a network that tells the dataset's steps from those played online.

    Raises:
        UserError: for an unknown mixer, or less than one critic.
    """

    mixer: MixerName = "qmix"
    policy: bool = False
    value: bool = False
    critics: int = 1
    normalise: bool = False
    ratio: bool = False
    behaviour: bool = False

    def __post_init__(self) -> None:
        check_known("mixer", self.mixer, get_args(MixerName))
        if self.critics < 1:
            raise UserError(f"networks need at least 1 critic; got {self.critics}.")


PLAIN = Parts()
"""Utilities alone, mixed by QMIX."""


class Agent(eqx.Module):
    """The recurrent network, shared by all agents: linear → ReLU → GRU → linear heads.

    Where agents of different kinds have parameters of their own, every array has a leading axis of K kinds.

    kinds: the kind of each agent, from 0 to K − 1; None: all share one network, and there is no such axis.
    """

    encoder: eqx.nn.Linear  # O + N + A → H
    cell: eqx.nn.GRUCell  # H → H
    head: eqx.nn.Linear  # H → K·A, the utilities of K critics
    policy: eqx.nn.Linear | None  # H → A, logits
    value: eqx.nn.Linear | None  # H → 1
    behaviour: eqx.nn.Linear | None  # H → A, logits of who played the dataset
    critics: int = eqx.field(static=True)
    normalise: bool = eqx.field(static=True)
    kinds: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, spec: EnvSpec, hidden: int, parts: Parts, kinds: tuple[int, ...] | None = None, *, key: PRNGKeyArray
    ):
        k_encoder, k_cell, k_head = jax.random.split(key, 3)
        inputs = spec.obs_size + spec.n_agents + spec.n_actions
        self.encoder = eqx.nn.Linear(inputs, hidden, key=k_encoder)
        self.cell = eqx.nn.GRUCell(hidden, hidden, key=k_cell)
        self.head = eqx.nn.Linear(hidden, parts.critics * spec.n_actions, key=k_head)
        self.policy = eqx.nn.Linear(hidden, spec.n_actions, key=k_head) if parts.policy else None
        self.value = eqx.nn.Linear(hidden, 1, key=k_head) if parts.value else None
        self.behaviour = eqx.nn.Linear(hidden, spec.n_actions, key=k_head) if parts.behaviour else None
        self.critics, self.normalise, self.kinds = parts.critics, parts.normalise, kinds


class Ratio(eqx.Module):
    """Tells by the state and the joint action whether a step was played online: S + N·A → E → 1, a logit."""

    layers: tuple[eqx.nn.Linear, eqx.nn.Linear]

    def __init__(self, spec: EnvSpec, hyper: int, *, key: PRNGKeyArray):
        inputs = spec.state_size + spec.n_agents * spec.n_actions
        self.layers = eqx.nn.Linear(inputs, hyper, key=key), eqx.nn.Linear(hyper, 1, key=key)


class Team(eqx.Module):
    """Everything that is learned: the agents' network, the mixer, and the ratio where a method needs it."""

    agent: Agent
    mixer: Mixer
    ratio: Ratio | None = None


def make_team(
    spec: EnvSpec,
    parts: Parts = PLAIN,
    *,
    hidden: int,
    embedding: int,
    hyper: int,
    key: PRNGKeyArray,
    kinds: tuple[int, ...] | None = None,
) -> Team:
    """Fresh networks for an environment of the given sizes; kinds: see `Agent`.

    Every weight and bias is uniform within ± 1/√(inputs of its layer), a recurrent layer's within ± 1/√H, as Equinox's
    layers have it; but all are drawn at once, where a draw per layer takes seconds to compile.
    """

    def layers(key: PRNGKeyArray) -> Team:
        mixer = make_mixer(spec, parts.mixer, embedding, hyper, key=key)
        ratio = Ratio(spec, hyper, key=key) if parts.ratio else None
        agent = Agent(spec, hidden, parts, kinds, key=key)
        if kinds is not None:
            agent = jax.tree.map(lambda x: jnp.broadcast_to(x, (1 + max(kinds), *x.shape)), agent)
        return Team(agent, mixer, ratio)

    def is_layer(x: object) -> bool:
        return isinstance(x, eqx.nn.Linear | eqx.nn.GRUCell)

    def bounds(layer: eqx.nn.Linear | eqx.nn.GRUCell) -> PyTree:
        inputs = layer.weight_hh.shape[-1] if isinstance(layer, eqx.nn.GRUCell) else layer.weight.shape[-1]
        return jax.tree.map(lambda x: np.full(x.shape, 1 / math.sqrt(inputs), np.float32), layer)

    bound = jax.tree.map(bounds, eqx.filter_eval_shape(layers, key), is_leaf=is_layer)
    flat, unravel = ravel_pytree(bound)
    return unravel(flat * jax.random.uniform(key, flat.shape, minval=-1.0))


def of_each_agent(agent: Agent) -> Agent:
    """The network with a leading axis of N agents, each having the parameters of its kind; as it is where all share."""
    if agent.kinds is None or agent.kinds == tuple(range(len(agent.kinds))):
        return agent
    return jax.tree.map(lambda x: x[np.array(agent.kinds)], agent)


def gru(cell: eqx.nn.GRUCell, h: Float[Array, "*rows H"], x: Float[Array, "*rows I"]) -> Float[Array, "*rows H"]:
    """One step of a gated recurrent unit (Cho et al. 2014): the state after input x."""
    assert cell.bias is not None and cell.bias_n is not None
    r_x, z_x, n_x = jnp.split(product(cell.weight_ih, x) + cell.bias, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(product(cell.weight_hh, h), 3, axis=-1)
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
    seen, index, acted = jnp.split(agent.encoder.weight, [o, o + n], axis=-1)
    assert agent.encoder.bias is not None
    own_index = index.T if index.ndim == 2 else jnp.diagonal(index, axis1=0, axis2=2).T
    return jax.nn.relu(
        normal(agent, product(seen, obs) + product(acted, last_action) + (own_index + agent.encoder.bias))
    )


def normal(agent: Agent, x: Float[Array, "*rows H"]) -> Float[Array, "*rows H"]:
    """Mean 0 and variance 1 over the units, where the agent has layer normalisation (without a learned scale)."""
    return jax.nn.standardize(x) if agent.normalise else x


class Heads(NamedTuple):
    """What an agent's network says at some rows: utilities of each critic, and where it has them logits, V_i, and
    the logits of the behaviour policy."""

    critics: Float[Array, "*rows N K A"]
    logits: Float[Array, "*rows N A"] | None
    value: Float[Array, "*rows N"] | None = None
    behaviour: Float[Array, "*rows N A"] | None = None

    @property
    def q(self) -> Float[Array, "*rows N A"]:
        """The utilities by which the team acts: the critics' mean."""
        one = self.critics.shape[-2] == 1
        return self.critics[..., 0, :] if one else self.critics.mean(axis=-2)

    @property
    def acting(self) -> Float[Array, "*rows N A"]:
        """What the greedy action is the largest of: the logits of the policy, or without one the utilities."""
        return self.q if self.logits is None else self.logits


def recur(
    agent: Agent, hidden: Float[Array, "*b N H"], encoded: Float[Array, "*b N H"]
) -> tuple[Float[Array, "*b N H"], Heads]:
    """One row for all agents, of a network `of_each_agent`: the next hidden state and what the heads say."""
    hidden = gru(agent.cell, hidden, encoded)
    features = normal(agent, hidden)
    critics = affine(agent.head, features)
    critics = critics.reshape(*critics.shape[:-1], agent.critics, -1)
    logits = None if agent.policy is None else affine(agent.policy, features)
    value = None if agent.value is None else affine(agent.value, features)[..., 0]
    behaviour = None if agent.behaviour is None else affine(agent.behaviour, jax.lax.stop_gradient(features))
    return hidden, Heads(critics, logits, value, behaviour)


def agent_step(
    agent: Agent,
    hidden: Float[Array, "*b N H"],
    obs: Float[Array, "*b N O"],
    last_action: Float[Array, "*b N A"],
) -> tuple[Float[Array, "*b N H"], Heads]:
    """One row for all agents, from what they see: the next hidden state and what the heads say."""
    agent = of_each_agent(agent)
    return recur(agent, hidden, encode(agent, obs, last_action))


def first_hidden(agent: Agent, n_agents: int) -> Float[Array, "N H"]:
    """The hidden state before an episode's first row."""
    return jnp.zeros((n_agents, agent.cell.hidden_size))


def last_actions(action: Int[Array, "T N"], valid: Bool[Array, " T"], n_actions: int) -> Float[Array, "T1 N A"]:
    """One-hot of the action before each row; zeros before an episode's first."""
    one_hot = jax.nn.one_hot(action, n_actions) * valid[:, None, None]
    return jnp.concatenate([jnp.zeros_like(one_hot[:1]), one_hot])


def unroll(agent: Agent, episode: Episode) -> Heads:
    """What the heads say at every row of an episode (leading axis T+1), such as the utilities Q_i(τ_i, ·).

    At the row after an invalid step another episode begins, and with it the recurrent layer.
    """
    _, n_agents, n_actions = episode.avail.shape
    agent = of_each_agent(agent)
    first = first_hidden(agent, n_agents)
    goes_on = jnp.concatenate([jnp.zeros(1, bool), episode.valid])

    def step(hidden: Float[Array, "N H"], row: tuple[Array, Array]) -> tuple[Float[Array, "N H"], Heads]:
        encoded, goes_on = row
        return recur(agent, jnp.where(goes_on, hidden, first), encoded)

    encoded = encode(agent, episode.obs, last_actions(episode.action, episode.valid, n_actions))
    return jax.lax.scan(step, first, (encoded, goes_on))[1]


def online_logit(
    ratio: Ratio, state: Float[Array, "*rows S"], joint: Float[Array, "*rows N A"]
) -> Float[Array, "*rows"]:
    """The logit of a step's having been played online, by its state and its joint action (one-hot)."""
    inputs = jnp.concatenate([state, joint.reshape(*joint.shape[:-2], -1)], axis=-1)
    return affine(ratio.layers[1], jax.nn.relu(affine(ratio.layers[0], inputs)))[..., 0]


def chosen(q: Shaped[Array, "*rows N A"], action: Int[Array, "*rows N"]) -> Shaped[Array, "*rows N"]:
    """Each agent's utility of its given action."""
    return jnp.take_along_axis(q, action[..., None].astype(jnp.int32), axis=-1)[..., 0]
