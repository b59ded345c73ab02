"""What SMAC's kin return, in the forms in which they do: legal actions, ends, and errors of their own."""

import numpy as np
import pytest

from ovmse.envs import interface


class Team:
    """Two agents; what each method returns is given."""

    n_agents = 2

    def __init__(self, **returned):
        for name, value in returned.items():
            setattr(self, name, value if callable(value) else lambda value=value: value)

    def get_obs(self):
        return [np.zeros(2), np.zeros(2)]


def legal(rows, n_actions):
    found = interface.look(Team(get_avail_actions=rows), n_actions).legal
    return [np.flatnonzero(row).tolist() for row in found]


@pytest.mark.parametrize(
    ("rows", "n_actions", "expected"),
    [
        ([[0, 1, 2], [1]], 3, [[0, 1, 2], [1]]),  # lists, one of which could be a mask
        ([[0, 1, 2], [0, 1]], 3, [[0, 1, 2], [0, 1]]),
        ([[0], [0]], 3, [[0], [0]]),
        ([[0, 1], [1]], 3, [[0, 1], [1]]),
        ([[0, 2], []], 3, [[0, 2], []]),
        ([[1, 0, 1], [0, 1, 0]], 3, [[0, 2], [1]]),  # masks
        ([[1, 1, 1], [0, 1]], 3, [[0, 1, 2], [1]]),  # of unlike agents
        ([[0, 1], [0, 1]], 2, [[1], [1]]),  # could be either: there is a place for each action
        ([[0, 1], [0, 1]], None, [[1], [1]]),
        ([[True, False, True], [True]], 3, [[0, 2], [0]]),
        (np.eye(2), 2, [[0], [1]]),
    ],
)
def test_legal_actions_are_told_by_masks_or_by_their_numbers(rows, n_actions, expected):
    assert legal(rows, n_actions) == expected


def test_legal_actions_may_be_told_agent_by_agent():
    found = interface.look(Team(get_avail_agent_actions=lambda i: [1, i]), 2).legal
    assert [row.tolist() for row in found] == [[True, False], [True, True]]
    assert interface.look(Team(), 2).legal is None


def test_what_goes_wrong_inside_a_method_is_not_taken_for_its_absence():
    def mistyped():
        return np.zeros(2).shap

    for name in ("get_avail_actions", "get_state"):
        with pytest.raises(AttributeError, match="shap"):
            interface.look(Team(**{name: mistyped}), 2)

    def delegated():
        return Team().get_state()  # a wrapper's, of what has none

    assert interface.look(Team(get_state=delegated), 2).state is None


@pytest.mark.parametrize(
    ("terminated", "truncated", "over", "cut"),
    [
        (True, False, True, False),
        (False, True, False, True),
        (True, True, True, False),  # the task's own end comes first
        ([True, False], [False, True], False, True),
        ([True, True], [False, True], True, False),
        ([True, False], [False, False], False, False),
        ({"a": True, "b": True}, {"a": False, "b": False}, True, False),
    ],
)
def test_ends_may_stand_per_agent_and_mix(terminated, truncated, over, cut):
    found = interface.parts("here", (None, 0.0, terminated, truncated, {}))
    assert found[1:3] == (over, cut)
    assert interface.parts("here", (0.0, True, {"episode_limit": True}))[1:3] == (True, True)
