"""The yardstick: its loss against loops over windows, steps and agents; resets inside a window; that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import yardstick
from benchmarks.sizes import battle_spec
from benchmarks.yardstick import Network, Scheme, Window

from ovmse import envs
from ovmse.config import LearnerConfig

pytestmark = pytest.mark.slow

SPEC = battle_spec(2, 2, 6)._replace(obs_size=3, state_size=5)
SMALL = LearnerConfig(hidden=7, embedding=4, hyper=6)
TINY = Scheme(envs=2, window=5, updates=2, batch=3, windows=4, learner=SMALL)


def random_windows(count=3, steps=5, seed=0) -> Window:
    """Windows [B, T, …] in which episodes begin anywhere."""
    rng = np.random.default_rng(seed)
    n, a = SPEC.n_agents, SPEC.n_actions
    avail = rng.random((count, steps, n, a)) < 0.6
    avail[..., 0] = True
    first = rng.random((count, steps)) < 0.4
    first[:, 0] = True
    return Window(
        obs=jnp.asarray(rng.normal(size=(count, steps, n, SPEC.obs_size + n)), jnp.float32),
        state=jnp.asarray(rng.normal(size=(count, steps, SPEC.state_size)), jnp.float32),
        avail=jnp.asarray(avail),
        action=jnp.asarray(rng.integers(a, size=(count, steps, n)), jnp.int32),
        reward=jnp.asarray(rng.normal(size=(count, steps)), jnp.float32),
        first=jnp.asarray(first),
    )


def networks() -> tuple[Network, Network]:
    return tuple(Network(SPEC, SMALL, key=jax.random.key(i)) for i in range(2))  # type: ignore[return-value]


def utilities_by_hand(network: Network, w: Window, b: int, agent: int) -> list[np.ndarray]:
    """One agent's utilities along one window, a step at a time, by Equinox's own layers."""
    hidden, found = jnp.zeros(SMALL.hidden), []
    for t in range(w.obs.shape[1]):
        hidden = jnp.zeros(SMALL.hidden) if w.first[b, t] else hidden
        hidden = network.cell(jax.nn.relu(network.encoder(w.obs[b, t, agent])), hidden)
        found.append(np.asarray(network.head(hidden)))
    return found


def q_tot_by_hand(network: Network, state: jax.Array, q: np.ndarray) -> float:
    """QMIX of one joint action (Rashid et al. 2018)."""
    m = network.mixer

    def hyper(layers):
        return np.asarray(layers[1](jax.nn.relu(layers[0](state))))

    hidden = q @ np.abs(hyper(m.w1)).reshape(len(q), -1) + np.asarray(m.b1(state))
    return float(np.where(hidden > 0, hidden, np.expm1(hidden)) @ np.abs(hyper(m.w2)) + hyper(m.b2)[0])


def test_the_loss_is_what_loops_over_windows_steps_and_agents_give():
    (online, target), w = networks(), random_windows()
    errors = []
    for b in range(w.obs.shape[0]):
        q = [utilities_by_hand(online, w, b, i) for i in range(SPEC.n_agents)]
        slow = [utilities_by_hand(target, w, b, i) for i in range(SPEC.n_agents)]
        for t in range(w.obs.shape[1] - 1):
            taken = np.array([q[i][t][w.action[b, t, i]] for i in range(SPEC.n_agents)])
            best = [np.where(w.avail[b, t + 1, i], q[i][t + 1], -np.inf).argmax() for i in range(SPEC.n_agents)]
            then = np.array([slow[i][t + 1][best[i]] for i in range(SPEC.n_agents)])
            goes_on = 0.0 if w.first[b, t + 1] else 1.0
            y = float(w.reward[b, t]) + SMALL.gamma * goes_on * q_tot_by_hand(target, w.state[b, t + 1], then)
            errors.append((q_tot_by_hand(online, w.state[b, t], taken) - y) ** 2)
    assert yardstick.td_loss(TINY, online, target, w) == pytest.approx(np.mean(errors), rel=1e-4)


def test_an_episode_inside_a_window_knows_nothing_of_the_one_before():
    network, rng = networks()[0], np.random.default_rng(1)
    obs = jnp.asarray(rng.normal(size=(6, 1, SPEC.obs_size + SPEC.n_agents)), jnp.float32)
    first = jnp.asarray([True, False, False, True, False, False])[:, None]
    zero = jnp.zeros((1, SMALL.hidden))
    whole = yardstick.utilities(network, zero, obs, first)[1]
    alone = yardstick.utilities(network, zero, obs[3:], first[3:])[1]
    np.testing.assert_allclose(whole[3:], alone, rtol=1e-6)
    carried = yardstick.utilities(network, zero, obs, first.at[3].set(False))[1]
    assert jnp.abs(carried[3:] - whole[3:]).max() > 1e-4


@pytest.fixture(scope="module")
def game():
    return envs.make("matrix:two_step")


def test_a_window_has_no_gaps_and_tells_where_episodes_begin(game):
    network = Network(game.spec, SMALL, key=jax.random.key(0))
    played = jax.jit(lambda key: yardstick.play(TINY, game, network, key))(jax.random.key(1))
    np.testing.assert_array_equal(played.first, [[True, False, True, False, True]] * 2)  # every game has two steps
    np.testing.assert_array_equal(played.state[..., 0], played.first)  # the first stage is where a game begins
    second = played.action[:, 0, 0]  # agent 0 chooses which game it is
    np.testing.assert_array_equal(played.state[:, 1].argmax(-1), 1 + second)
    np.testing.assert_array_equal(played.obs[..., game.spec.obs_size :], np.broadcast_to(np.eye(2), (2, 5, 2, 2)))


def test_the_oldest_windows_of_a_full_ring_are_replaced(game):
    state = yardstick.init(TINY, game.spec, jax.random.key(0))
    for number in (1.0, 2.0, 3.0):
        new = jax.tree.map(lambda ring: jnp.full_like(ring[:2], number), state.ring)  # noqa: B023
        state = yardstick.store(TINY, state, new)
    np.testing.assert_array_equal(state.ring.reward[:, 0], [3.0, 3.0, 2.0, 2.0])
    assert state.written == 6


def test_it_learns_what_a_game_is_worth(game):
    learner = dataclasses.replace(SMALL, hidden=16, learning_rate=5e-3)
    scheme = Scheme(envs=4, window=9, updates=8, batch=16, windows=64, learner=learner, target_every_rounds=5)
    run = yardstick.repeated(lambda state: yardstick.cycle(scheme, game, state), None)
    state = run(yardstick.init(scheme, game.spec, jax.random.key(0)), 1)
    before = float(state.loss)
    state = run(state, 150)
    assert float(state.loss) < before / 10
    assert state.rounds == 151 and state.written == 4 * 151
    assert scheme.reuse == 32 and scheme.trained_steps == 16 * 8
