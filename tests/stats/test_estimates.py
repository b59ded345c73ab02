"""The report's statistics against hand-computed numbers and against SciPy."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import bootstrap, trim_mean

from ovmse.stats import estimates

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=1, max_size=25))
def test_iqm_is_the_trimmed_mean(values: list[float]) -> None:
    array = np.array(values)
    assert estimates.iqm(array) == pytest.approx(trim_mean(array, 0.25), rel=1e-9, abs=1e-6)


def test_iqm_along_an_axis_is_the_trimmed_mean_of_each_column() -> None:
    array = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_allclose(estimates.iqm(array), trim_mean(array, 0.25, axis=0))


def test_iqm_leaves_out_a_whole_quarter_on_each_side() -> None:
    assert estimates.iqm(np.array([100.0, 1.0, 3.0, -50.0])) == 2.0
    assert estimates.iqm(np.array([0.0, 1.0, 5.0])) == 2.0  # up to three seeds it is the mean


def test_interval_needs_two_seeds_and_brackets_the_estimate() -> None:
    assert estimates.bootstrap_interval(np.array([0.5])) is None
    one = estimates.estimate([0.5])
    assert one == estimates.Estimate(0.5, None, None, 1)
    several = estimates.estimate([0.1, 0.2, 0.3, 0.4, 0.9])
    assert several is not None and several.low is not None and several.high is not None
    assert several.value == pytest.approx(0.3)
    assert 0.1 <= several.low < several.value < several.high <= 0.9
    assert estimates.estimate([]) is None


def test_interval_of_equal_seeds_has_no_width_and_is_reproducible() -> None:
    assert estimates.estimate([0.25] * 4) == estimates.Estimate(0.25, 0.25, 0.25, 4)
    values = np.random.default_rng(1).normal(size=(6, 3))
    first, second = estimates.bootstrap_interval(values), estimates.bootstrap_interval(values)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(2,), (5,), (7, 4)])
def test_interval_is_scipys_percentile_bootstrap(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).normal(size=shape)
    options = {"axis": 0, "vectorized": True, "method": "percentile", "rng": np.random.default_rng(4)}
    expected = bootstrap((values,), estimates.iqm, n_resamples=300, **options).confidence_interval
    found = estimates.bootstrap_interval(values, resamples=300, seed=4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_interval_of_several_samples_draws_each_as_scipy_does() -> None:
    samples = [np.random.default_rng(n).normal(size=n) for n in (4, 6)]

    def gap(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    options = {"axis": 0, "vectorized": True, "method": "percentile", "rng": np.random.default_rng(0)}
    expected = bootstrap(samples, gap, n_resamples=300, **options).confidence_interval
    np.testing.assert_allclose(
        estimates.bootstrap_interval(*samples, statistic=gap, resamples=300), expected, rtol=1e-12
    )


def test_interval_of_two_seeds_is_known_exactly() -> None:
    # Resampled means are 0, 0.5 and 1 with chances 1/4, 1/2 and 1/4, so both tails reach the ends.
    interval = estimates.bootstrap_interval(np.array([0.0, 1.0]))
    assert interval is not None and (interval[0], interval[1]) == (0.0, 1.0)


def test_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    samples = rng.normal(size=(40, 300))  # 300 experiments of 40 seeds each; the true value is 0
    interval = estimates.bootstrap_interval(samples, resamples=400)
    assert interval is not None
    covered = np.mean((interval[0] <= 0) & (interval[1] >= 0))
    assert 0.88 < covered < 0.99


def test_area_is_the_mean_over_steps_not_over_evaluations() -> None:
    steps, scores = np.array([0.0, 10.0, 40.0]), np.array([0.0, 1.0, 1.0])
    assert estimates.area_under_curve(steps, scores) == pytest.approx((5 + 30) / 40)
    assert estimates.area_under_curve(np.array([0.0]), np.array([0.7])) == 0.7


def test_regret_is_what_is_missing_summed_over_steps() -> None:
    steps, scores = np.array([0.0, 10.0, 40.0]), np.array([0.0, 1.0, 0.8])
    assert estimates.regret(1.0, steps, scores) == pytest.approx(10 * 0.5 + 30 * 0.1)
    assert estimates.regret(0.5, steps, scores) == pytest.approx(8 - 0.5 * 40)  # above the reference counts against it
    assert estimates.regret(1.0, np.array([0.0]), np.array([0.7])) == 0.0
    mean = estimates.area_under_curve(steps, scores)
    assert estimates.regret(1.0, steps, scores) == pytest.approx((1.0 - mean) * 40)


@pytest.mark.parametrize(
    ("before", "scores", "dip", "recovered"),
    [
        (0.5, [0.5, 0.3, 0.4, 0.6], 0.2, 300.0),
        (0.5, [0.5, 0.3, 0.5, 0.6], 0.2, 200.0),  # equal counts as recovered
        (0.5, [0.6, 0.6, 0.7, 0.8], 0.0, 0.0),  # never fell
        (0.5, [0.4, 0.3, 0.2, 0.1], 0.4, None),  # never came back
        (0.5, [0.3, 0.6, 0.3, 0.7], 0.2, 300.0),  # the last of equal lowest points counts
        (-2.0, [-5.0, -1.0, -3.0, -4.0], 3.0, 100.0),  # returns below zero
    ],
)
def test_dip_and_recovery(before: float, scores: list[float], dip: float, recovered: float | None) -> None:
    steps, array = np.array([0.0, 100.0, 200.0, 300.0]), np.array(scores)
    assert estimates.dip(before, array) == pytest.approx(dip)
    assert estimates.recovered_at(before, steps, array) == recovered


def test_median_recovery_counts_never_as_infinite() -> None:
    assert estimates.median_recovery([100.0, None, 300.0]) == 300.0
    assert estimates.median_recovery([100.0, None, None]) is None
    assert estimates.median_recovery([100.0, None]) is None
    assert estimates.median_recovery([]) is None


def test_seeds_with_other_steps_are_interpolated_on_what_both_cover() -> None:
    xs = [np.array([0.0, 10.0, 20.0]), np.array([0.0, 5.0, 15.0])]
    ys = [np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0])]
    line = estimates.curve(xs, ys)
    np.testing.assert_array_equal(line.x, [0, 5, 10, 15])
    np.testing.assert_allclose(line.middle, [0, 0.75, 1.5, 2.25])
    assert line.low is not None and line.high is not None
    np.testing.assert_allclose((line.low[-1], line.high[-1]), (1.5, 3.0))


def test_a_long_grid_is_thinned_and_keeps_its_ends() -> None:
    grid = estimates.common_grid([np.arange(1000.0), np.arange(900.0)])
    assert (grid.size, grid[0], grid[-1]) == (estimates.MAX_GRID, 0.0, 899.0)


def test_the_first_tenth_by_hand() -> None:
    # at 0, 50, 100, 200 … of 1,000 steps; the first 100 have areas 50 · 0.5 and 50 · 0.3, the mean 0.4
    steps, scores = np.array([0.0, 50.0, 100.0, 200.0, 1000.0]), np.array([0.6, 0.4, 0.2, 0.8, 0.8])
    assert estimates.first_tenth_change(0.6, steps, scores, 1000.0) == pytest.approx(0.4 - 0.6)
    # of 600 steps the tenth ends between two evaluations, at 60 with 0.36: 50 · 0.5 + 10 · 0.38
    assert estimates.first_tenth_change(0.6, steps, scores, 600.0) == pytest.approx(28.8 / 60 - 0.6)
    assert estimates.mean_within(steps, scores, 800.0, 1000.0) == pytest.approx(0.8)
    assert estimates.mean_within(steps[:2], scores[:2], 800.0, 1000.0) == pytest.approx(0.4)  # as it was at the end


def test_the_first_tenth_is_not_deepened_by_noise_as_the_dip_is() -> None:
    rng = np.random.default_rng(0)
    steps = np.linspace(0.0, 1000.0, 401)
    noisy = 0.5 + 0.1 * rng.normal(size=(200, 401))  # nothing ever fell
    assert abs(np.mean([estimates.first_tenth_change(0.5, steps, one, 1000.0) for one in noisy])) < 0.005
    assert np.mean([estimates.dip(0.5, one) for one in noisy]) > 0.25
