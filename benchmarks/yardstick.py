"""The scheme of JaxMARL's recurrent QMIX, as a yardstick to measure the library against.

This is our own writing of the scheme, in plain JAX: JaxMARL's package (Rutherford et al. 2024, Apache 2.0) holds the
environments and not its learners, and nothing is taken from its repository but the order of the work
(``baselines/QLearning/qmix_rnn.py`` of FLAIROx/JaxMARL). What that learner reaches is not measured here.

A cycle resets all environments, steps them for a window with automatic resets, stores one window for each, and
does some updates on windows drawn uniformly. There is no padding: a window holds several episodes, and the recurrent
state is zero again where one begins. What is different: gates are one product with all three of a GRU's, where flax
multiplies three times; Adam stands for rectified Adam; an episode's end is the team's, and the target of its last
step has no next value. Axes: T steps of a window, B windows, N agents, A actions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.config import LearnerConfig
from ovmse.core.action_selection import epsilon_greedy, greedy
from ovmse.core.mixers import QMIX, affine, mix, weights_at
from ovmse.core.networks import chosen, gru
from ovmse.core.types import EnvSpec, Observation
from ovmse.envs.protocol import Environment


@dataclass(frozen=True)
class Scheme:
    """Sizes of the work; the networks' are those of the library's learner unless others are given."""

    envs: int = 16
    """environments side by side"""
    window: int = 128
    """steps of each between two rounds of updates, and of a stored window (T)"""
    updates: int = 16
    """updates of a round"""
    batch: int = 32
    """windows of an update (B)"""
    windows: int = 512
    """windows that the ring holds, a multiple of `envs`; JaxMARL has 4,992, and a draw costs the same"""
    learner: LearnerConfig = LearnerConfig()
    """sizes of the networks, discount, step size and clipping; the target is that of one step"""
    target_every_rounds: int = 10
    """rounds of updates between two copies into the target network"""
    epsilon: float = 1.0
    """probability of a random action"""

    @property
    def trained_steps(self) -> int:
        """Steps that an update learns from: the last of a window has no next one."""
        return self.batch * (self.window - 1)

    @property
    def reuse(self) -> float:
        """How often a played step is in a batch, on average."""
        return self.updates * self.batch / self.envs


PUBLISHED = Scheme(updates=8, learner=LearnerConfig(hidden=512, embedding=64, hyper=256))
"""What ``config/alg/ql_rnn_smax.yaml`` of JaxMARL sets for SMAX."""


class Window(NamedTuple):
    """Consecutive steps of one environment. obs: with the agent's index, one-hot. first: an episode begins here."""

    obs: Float[Array, "*b T N O"]
    state: Float[Array, "*b T S"]
    avail: Bool[Array, "*b T N A"]
    action: Int[Array, "*b T N"]
    reward: Float[Array, "*b T"]
    first: Bool[Array, "*b T"]


class Network(eqx.Module):
    """The agents' shared network, dense → ReLU → GRU → dense, and the mixer."""

    encoder: eqx.nn.Linear  # O + N → H
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear  # H → A
    mixer: QMIX

    def __init__(self, spec: EnvSpec, sizes: LearnerConfig, *, key: PRNGKeyArray):
        k_encoder, k_cell, k_head, k_mixer = jax.random.split(key, 4)
        self.encoder = eqx.nn.Linear(spec.obs_size + spec.n_agents, sizes.hidden, key=k_encoder)
        self.cell = eqx.nn.GRUCell(sizes.hidden, sizes.hidden, key=k_cell)
        self.head = eqx.nn.Linear(sizes.hidden, spec.n_actions, key=k_head)
        self.mixer = QMIX(spec, sizes.embedding, sizes.hyper, key=k_mixer)


class State(NamedTuple):
    """What a cycle hands on to the next. ring: axes [windows, T, …]; written: windows stored so far."""

    network: Network
    target: Network
    optimiser: optax.OptState
    ring: Window
    written: Int[Array, ""]
    rounds: Int[Array, ""]
    loss: Float[Array, ""]
    key: PRNGKeyArray


def optimiser(scheme: Scheme) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam."""
    learner = scheme.learner
    return optax.chain(optax.clip_by_global_norm(learner.clip_norm), optax.adam(learner.learning_rate))


def init(scheme: Scheme, spec: EnvSpec, key: PRNGKeyArray) -> State:
    """Fresh networks and an empty ring."""
    k_network, k_state = jax.random.split(key)
    network = Network(spec, scheme.learner, key=k_network)
    n, a, each = spec.n_agents, spec.n_actions, (scheme.windows, scheme.window)
    ring = Window(
        obs=jnp.zeros((*each, n, spec.obs_size + n)),
        state=jnp.zeros((*each, spec.state_size)),
        avail=jnp.zeros((*each, n, a), bool),
        action=jnp.zeros((*each, n), jnp.int32),
        reward=jnp.zeros(each),
        first=jnp.zeros(each, bool),
    )
    written, rounds = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    target = jax.tree.map(jnp.copy, network)  # `repeated` takes over every array once
    return State(network, target, optimiser(scheme).init(network), ring, written, rounds, jnp.zeros(()), k_state)


def utilities(
    network: Network, hidden: Float[Array, "R H"], obs: Float[Array, "T R O"], first: Bool[Array, "T R"]
) -> tuple[Float[Array, "R H"], Float[Array, "T R A"]]:
    """The recurrent state after T steps and every action's utility at each, for R agents of any windows."""

    def step(hidden: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        encoded, begins = x
        hidden = gru(network.cell, jnp.where(begins[:, None], 0.0, hidden), encoded)
        return hidden, hidden

    hidden, all_hidden = jax.lax.scan(step, hidden, (jax.nn.relu(affine(network.encoder, obs)), first))
    return hidden, affine(network.head, all_hidden)


def with_index(obs: Float[Array, "E N O"]) -> Float[Array, "E N O"]:
    """Observations with the agent's index, one-hot."""
    envs, n, _ = obs.shape
    return jnp.concatenate([obs, jnp.broadcast_to(jnp.eye(n), (envs, n, n))], axis=-1)


def play(scheme: Scheme, env: Environment, network: Network, key: PRNGKeyArray) -> Window:
    """A window of each environment, axes [envs, T, …], from new episodes on."""
    envs, n = scheme.envs, env.spec.n_agents
    epsilon = jnp.float32(scheme.epsilon)

    def reset(key: PRNGKeyArray) -> tuple[Any, Observation]:
        return jax.vmap(env.reset)(jax.random.split(key, envs))

    def step(carry: tuple[Array, Any, Observation, Array], key: PRNGKeyArray) -> tuple[tuple, Window]:
        hidden, env_state, seen, first = carry
        k_act, k_step, k_reset = jax.random.split(key, 3)
        obs = with_index(seen.obs)
        hidden, q = utilities(network, hidden, obs.reshape(1, envs * n, -1), jnp.repeat(first, n)[None])
        q = q.reshape(envs, n, -1)
        action = jax.vmap(epsilon_greedy, in_axes=(0, 0, 0, None))(
            jax.random.split(k_act, envs), q, seen.avail, epsilon
        )
        after = jax.vmap(env.step)(jax.random.split(k_step, envs), env_state, action)
        ended = after[2].terminal | after[2].truncated

        def unless_ended(new: Array, goes_on: Array) -> Array:
            return jnp.where(ended.reshape(-1, *[1] * (goes_on.ndim - 1)), new, goes_on)

        env_state, then = jax.tree.map(unless_ended, reset(k_reset), after[:2])
        row = Window(obs, seen.state, seen.avail, action.astype(jnp.int32), after[2].reward, first)
        return (hidden, env_state, then, ended), row

    k_reset, k_steps = jax.random.split(key)
    hidden = jnp.zeros((envs * n, network.cell.hidden_size))
    carry = (hidden, *reset(k_reset), jnp.ones((envs,), bool))
    rows = jax.lax.scan(step, carry, jax.random.split(k_steps, scheme.window))[1]
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows)


def td_loss(scheme: Scheme, network: Network, target: Network, windows: Window) -> Float[Array, ""]:
    """The mean squared error of Q_tot against the one-step target of double Q-learning, on windows [B, T, …]."""
    w = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), windows)
    steps, count, n, _ = w.obs.shape
    obs, first = w.obs.reshape(steps, count * n, -1), jnp.repeat(w.first, n, axis=1)

    def unroll(network: Network) -> Float[Array, "T B N A"]:
        hidden = jnp.zeros((count * n, network.cell.hidden_size))
        return utilities(network, hidden, obs, first)[1].reshape(steps, count, n, -1)

    q = unroll(network)
    next_q = chosen(unroll(target), greedy(q, w.avail))
    next_tot = mix(weights_at(target.mixer, w.state), next_q)[1:]
    y = w.reward[:-1] + scheme.learner.gamma * jnp.where(w.first[1:], 0.0, next_tot)
    q_tot = mix(weights_at(network.mixer, w.state), chosen(q, w.action))[:-1]
    return jnp.mean((q_tot - jax.lax.stop_gradient(y)) ** 2)


def store(scheme: Scheme, state: State, played: Window) -> State:
    """The state with a window of each environment in its ring, in place of the oldest."""
    at = state.written % scheme.windows
    ring = jax.tree.map(lambda ring, x: jax.lax.dynamic_update_slice_in_dim(ring, x, at, 0), state.ring, played)
    return state._replace(ring=ring, written=state.written + scheme.envs)


def update(scheme: Scheme, state: State) -> State:
    """One gradient update on windows drawn uniformly."""
    key, k_draw = jax.random.split(state.key)
    there = jnp.minimum(state.written, scheme.windows)
    drawn = jax.random.randint(k_draw, (scheme.batch,), 0, there)
    windows = jax.tree.map(lambda ring: ring[drawn], state.ring)
    loss, gradients = jax.value_and_grad(lambda x: td_loss(scheme, x, state.target, windows))(state.network)
    changes, kept = optimiser(scheme).update(gradients, state.optimiser)
    return state._replace(network=eqx.apply_updates(state.network, changes), optimiser=kept, loss=loss, key=key)


def collect(scheme: Scheme, env: Environment, state: State) -> State:
    """One round of play, stored."""
    key, k_play = jax.random.split(state.key)
    return store(scheme, state._replace(key=key), play(scheme, env, state.network, k_play))


def cycle(scheme: Scheme, env: Environment, state: State) -> State:
    """Play, store, learn; now and then the target network becomes the online one."""
    state = updates(scheme, collect(scheme, env, state), scheme.updates)
    rounds = state.rounds + 1
    copies = rounds % scheme.target_every_rounds == 0
    target = jax.tree.map(lambda new, old: jnp.where(copies, new, old), state.network, state.target)
    return state._replace(target=target, rounds=rounds)


def updates(scheme: Scheme, state: State, count: int | Int[Array, ""]) -> State:
    """So many gradient updates."""
    return jax.lax.fori_loop(0, count, lambda _, state: update(scheme, state), state)


def repeated(one: Callable[[State], State], options: dict[str, Any] | None) -> Callable[[State, int], State]:
    """So many times `one`, as one compiled program; it takes over the memory of its state."""

    def many(state: State, count: Int[Array, ""]) -> State:
        return jax.lax.fori_loop(0, count, lambda _, state: one(state), state)

    program = jax.jit(many, donate_argnums=0, compiler_options=options)
    return lambda state, count: program(state, jnp.int32(count))
