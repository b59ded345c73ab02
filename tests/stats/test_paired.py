"""Differences of two arms: by hand, and the interval by its formula."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from ovmse.stats.paired import paired_difference, unpaired_difference

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20)


def test_a_difference_by_hand():
    found = paired_difference([0.5, 0.7, 0.6], [0.4, 0.4, 0.6])
    # differences 0.1, 0.3, 0: mean 0.4/3, variance 7/300; Student's t with 2 degrees of freedom at 97.5 % is 4.302653
    half = 4.302653 * (7 / 300 / 3) ** 0.5
    assert found.value == pytest.approx(0.4 / 3) and found.n == 3 and found.above == pytest.approx(2.5 / 3)
    assert (found.low, found.high) == pytest.approx((0.4 / 3 - half, 0.4 / 3 + half), rel=1e-6)


def test_one_pair_has_no_interval():
    assert paired_difference([0.5], [0.75]) == (-0.25, None, None, 0.0, 1)


@pytest.mark.parametrize("n", [2, 3, 5, 12, 50, 400])
def test_the_interval_is_scipys(n):
    difference = np.random.default_rng(n).normal(size=n)
    found = paired_difference(difference.tolist(), [0.0] * n)
    expected = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


@given(SCORES)
def test_the_other_way_round_everything_is_mirrored(pairs):
    ours, theirs = zip(*pairs, strict=True)
    one, other = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert one.value == pytest.approx(-other.value, abs=1e-9) and one.above == pytest.approx(1 - other.above)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)


def test_the_protocols_numbers_of_pairs_have_the_power_that_it_says():
    """The table of docs/protocol.md, by the noncentral t distribution."""
    for pairs, d in {5: 1.68, 6: 1.43, 10: 1.00, 12: 0.89, 20: 0.66, 30: 0.53, 50: 0.40}.items():
        shift, bound = d * pairs**0.5, stats.t.ppf(0.975, pairs - 1)
        power = 1 - stats.nct.cdf(bound, pairs - 1, shift) + stats.nct.cdf(-bound, pairs - 1, shift)
        assert power == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 50), (40, 7)])
def test_the_unpaired_interval_is_welchs(n, m):
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(size=n), rng.normal(1.0, 3.0, size=m)
    value, low, high = unpaired_difference(ours.tolist(), theirs.tolist())
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (value, low, high) == pytest.approx((ours.mean() - theirs.mean(), *expected), rel=1e-9)


def test_scores_without_spread_have_no_width():
    assert unpaired_difference([2.0, 2.0], [1.5, 1.5, 1.5]) == (0.5, 0.5, 0.5)
