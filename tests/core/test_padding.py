"""Unlike agents in one shape: nothing of their own is lost, nothing is added, and who is out of play is known."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ovmse.core.errors import UserError
from ovmse.core.kinds import kinds_of
from ovmse.core.padding import NO_OP, out_of_play, own_actions, padded, present


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 2))
def test_what_an_agent_has_stays_and_nothing_comes_after_it(sizes, rows, more):
    rng = np.random.default_rng(0)
    own = [rng.normal(size=(rows, size)) + 2 for size in sizes]
    found = padded(own, max(sizes) + more)
    assert found.shape == (rows, len(sizes), max(sizes) + more)
    for i, x in enumerate(own):
        np.testing.assert_array_equal(found[:, i, : sizes[i]], x)
        assert not found[:, i, sizes[i] :].any()
    masks = padded([np.isfinite(x) for x in own], max(sizes))
    assert masks.dtype == bool and masks.sum() == rows * sum(sizes)


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.integers(2, 4))
def test_who_is_out_of_play_is_known_again(absent, n_actions):
    absent = np.array(absent)
    obs, avail = np.ones((len(absent), 3), np.float32), np.ones((len(absent), n_actions), bool)
    obs, avail = out_of_play(obs, avail, absent)
    assert obs.dtype == np.float32 and not obs[absent].any()
    assert (avail[absent].argmax(-1) == NO_OP).all() and (avail[absent].sum(-1) == 1).all()
    np.testing.assert_array_equal(present(obs, avail), ~absent)


def test_an_agent_that_sees_anything_or_has_a_choice_is_in_play():
    obs, avail = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([[1, 1], [0, 1], [0, 1]], bool)
    assert present(obs, avail).tolist() == [True, True, False]


def test_actions_that_an_agent_never_has_are_masked():
    assert own_actions([{0, 2}, {1}], 3).tolist() == [[True, False, True], [False, True, False]]


def test_agents_with_the_same_features_and_actions_are_of_a_kind():
    assert kinds_of([(3, 2), (4, 2), (3, 2)]) == (0, 1, 0)
    assert kinds_of([(3, 2), (3, 2)]) == ()


def test_a_row_longer_than_told_is_named():
    with pytest.raises(UserError, match="agent 1: expected at most 2 features, or actions, as told before; got 3"):
        padded([np.zeros(1), np.zeros(3)], 2)
