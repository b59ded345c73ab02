"""A team that plays whole episodes without JAX: what it takes, what it brings, and how it explores."""

import numpy as np
import pytest
from support.junction import Junction
from support.small_team import CONTRACT, about, weights

from ovmse.policy.act import Policy
from ovmse.policy.player import RULES, Player


def play(player=None, arrays=None, **changed):
    return (player or Player()).play(
        Junction(), about(**changed), weights() if arrays is None else arrays, lambda: None
    )


def test_an_episode_is_whole_and_greedy_without_exploration():
    told, episode = play()
    assert told["won"] and set(told["measures"]) == {"waiting_time", "collisions"}
    shapes = {name: array.shape for name, array in episode.items()}
    assert shapes == {
        "obs": (5, 2, 3), "state": (5, 2), "avail": (5, 2, 3), "action": (4, 2), "reward": (4,), "terminal": (4,),
    }  # fmt: skip
    team, memory = Policy(CONTRACT, weights()), None
    for t in range(4):
        action, memory = team.act(episode["obs"][t], episode["avail"][t], memory)
        np.testing.assert_array_equal(action, episode["action"][t])
    waited = int((episode["action"] == 0).sum())
    assert told["measures"]["waiting_time"] == waited


def test_the_seed_and_the_key_say_what_is_played():
    one, same, other = (play(rule="sequential", epsilon=0.5, key=[1, k])[1] for k in (2, 2, 3))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["action"], other["action"])


def test_without_weights_the_last_team_plays():
    player = Player()
    first = play(player)[1]
    assert np.array_equal(play(player, arrays={})[1]["action"], first["action"])


@pytest.mark.parametrize("rule", RULES)
def test_only_legal_actions_are_chosen(rule):
    rng, legal = np.random.default_rng(0), np.array([[True, False, True], [False, True, False]])
    chosen = np.array([RULES[rule](rng, rng.normal(size=(2, 3)), legal, 0.7) for _ in range(300)])
    assert set(chosen[:, 0]) == {0, 2} and set(chosen[:, 1]) == {1}


def rates(rule, epsilon, draws=20_000):
    """How often each of 2 agents takes each of 3 actions, all legal, whose scores are fixed."""
    rng, scores, legal = np.random.default_rng(1), np.log([[6.0, 3.0, 1.0], [1.0, 1.0, 2.0]]), np.ones((2, 3), bool)
    chosen = np.array([RULES[rule](rng, scores, legal, epsilon) for _ in range(draws)])
    return np.stack([(chosen == a).mean(0) for a in range(3)], 1), chosen


def test_each_agent_explores_on_its_own_at_rate_epsilon():
    found, chosen = rates("epsilon_greedy", 0.3)
    np.testing.assert_allclose(found, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], atol=0.015)
    both = ((chosen[:, 0] != 0) & (chosen[:, 1] != 2)).mean()
    assert both == pytest.approx(0.04, abs=0.01)


def test_one_agent_at_a_time_explores():
    found, chosen = rates("sequential", 0.6)
    np.testing.assert_allclose(found, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], atol=0.015)
    assert not ((chosen[:, 0] != 0) & (chosen[:, 1] != 2)).any()


def test_a_policy_is_drawn_from():
    found, _ = rates("sample", 0.0)
    np.testing.assert_allclose(found, [[0.6, 0.3, 0.1], [0.25, 0.25, 0.5]], atol=0.015)
