"""The unlearning monitor: each number by hand, and on stored episodes against the plain networks."""

import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SPEC, as_jax, random_episode, random_team, replay_of, write_dataset

from ovmse.core.networks import unroll
from ovmse.core.values import taken_q_tot
from ovmse.methods import METHODS, find
from ovmse.training import metrics, monitor


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    return [random_episode(rng, n) for n in (3, 6, 1, 5)]


def test_drift_by_hand():
    """Steps 1 and 2 count: 3 − 4 and 1 + 2 make 2, over 2 steps; |4| and |−2| make 6, over 2 steps."""
    now, then = jnp.array([[3.0, 1.0, 99.0]]), jnp.array([[4.0, -2.0, 50.0]])
    moved, relative = monitor.drift(now, then, jnp.array([[True, True, False]]))
    assert float(moved) == pytest.approx(1.0) and float(relative) == pytest.approx(1.0 / 3.0)
    moved, relative = monitor.drift(now, jnp.zeros((1, 3)), jnp.array([[True, True, False]]))
    assert float(moved) == pytest.approx(2.0) and jnp.isnan(relative)


def test_agreement_by_hand():
    """Two steps, two agents: agent 0 agrees, then not; agent 1 has one legal action, then agrees. 2 of 3."""
    acting = jnp.array([[[1.0, 0.0], [0.0, 9.0]], [[0.0, 1.0], [2.0, 3.0]], [[1.0, 0.0], [1.0, 0.0]]])
    frozen = jnp.array([[[5.0, 4.0], [9.0, 0.0]], [[1.0, 0.0], [0.0, 0.1]], [[0.0, 1.0], [0.0, 1.0]]])
    avail = jnp.array([[[1, 1], [1, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]], bool)
    counted = jnp.array([True, True, False])
    assert float(monitor.agreement(acting, frozen, avail, counted)) == pytest.approx(2 / 3)
    assert float(monitor.agreement(acting, acting, avail, counted)) == 1.0
    assert jnp.isnan(monitor.agreement(acting, frozen, avail.at[:, :, 1].set(False), counted))


def test_an_illegal_action_is_not_the_greedy_one():
    acting, frozen = jnp.array([[[1.0, 0.0, 9.0]]]), jnp.array([[[2.0, 0.0, -9.0]]])
    avail = jnp.array([[[True, True, False]]])
    assert float(monitor.agreement(acting, frozen, avail, jnp.array([True]))) == 1.0


@pytest.mark.parametrize("parts", [{}, {"policy": True, "critics": 2}])
@pytest.mark.slow
def test_what_is_watched_are_the_datasets_first_episodes(parts, episodes, tmp_path):
    """The team acts by its policy's logits where it has a policy; the frozen one has utilities alone."""
    data = as_jax(replay_of(write_dataset(tmp_path / "data", SPEC, episodes)))
    team, frozen = random_team(3, **parts), random_team(4)
    found = monitor.watch(team, frozen, data, SPEC, episodes=3)
    now, then, same = [], [], []
    for episode in as_jax(episodes[:3]):
        valid = np.asarray(episode.valid)
        now.append(np.asarray(taken_q_tot(team, episode))[valid])
        then.append(np.asarray(taken_q_tot(frozen, episode))[valid])
        avail = np.asarray(episode.avail)[:-1]
        a, b = (np.where(avail, np.asarray(unroll(t.agent, episode).acting)[:-1], -np.inf) for t in (team, frozen))
        same.append((a.argmax(-1) == b.argmax(-1))[valid[:, None] & (avail.sum(-1) > 1)])
    now, then, same = (np.concatenate(x) for x in (now, then, same))
    expected = (now.mean(), then.mean(), (now - then).mean(), (now - then).mean() / np.abs(then).mean(), same.mean())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "online", "known"),
    [
        ("ovmse", True, "q_tot offline_value drift relative_drift agreement"),
        ("wsrl", True, "q_tot offline_value drift relative_drift agreement"),  # it remembers nothing
        ("jsrl", True, "q_tot offline_value drift relative_drift agreement"),
        ("ovmse", False, "q_tot"),
        ("iql", True, "agreement"),  # it learns each agent's utilities, and no Q_tot
        ("iql", False, ""),
        ("bc", False, ""),
        ("jsrl+bc", True, "q_tot agreement"),  # its guide learned no values
        ("rlpd", True, "q_tot"),  # it has data, and no offline phase
    ],
)
def test_what_a_method_does_not_learn_is_not_watched(name, online, known):
    reading = monitor.MonitorReading(*(jnp.array([0.5]) for _ in monitor.MonitorReading._fields))
    row = metrics.monitor_row(reading, 0, find(name), online)
    assert {k for k, v in row.items() if v is not None} == {f"monitor_{k}" for k in known.split()}
    assert set(metrics.monitor_row(None, 0, METHODS["scratch"], True).values()) == {None}
