"""Statistics over tasks against rliable: its formulas written down again, its own numbers, and numbers by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import mannwhitneyu, trim_mean

from ovmse.stats import aggregate, estimates

# Runs x tasks, with ties within and between the two.
X = np.array(
    [[0.10, 0.50, 0.90], [0.20, 0.50, 0.80], [0.40, 0.75, 1.00], [0.40, 0.25, 0.95], [0.60, 0.65, 0.70]]
)  # fmt: skip
Y = np.array([[0.05, 0.50, 0.85], [0.20, 0.40, 0.80], [0.30, 0.45, 0.99], [0.55, 0.30, 0.60]])
TASKS_X, TASKS_Y = list(X.T), list(Y.T)
TAUS = np.array([0.0, 0.25, 0.5, 0.75, 0.9])

# What rliable 1.2.0 returned for X and Y (arch 7.2.0): point values, and intervals of 50,000, 20,000 (profile) and
# 5,000 (improvement) resamples.
RLIABLE = {
    "pooled_iqm": (0.5888888888888889, 0.48333333, 0.67222222),
    "mean": (0.58, 0.50333333, 0.65666667),
    "median": (0.53, 0.4, 0.68),
    "optimality_gap": (0.42, 0.34333333, 0.49666667),
}
RLIABLE_PROFILE = [1.0, 0.8, 8 / 15, 4 / 15, 2 / 15]
RLIABLE_IMPROVEMENT = (2 / 3, 0.44166667, 0.875)

TABLES = st.integers(1, 6).flatmap(
    lambda runs: st.lists(
        st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=runs, max_size=runs), min_size=1, max_size=4
    )
)


@pytest.mark.parametrize("name", RLIABLE)
def test_rliable_found_the_same(name: str) -> None:
    found = aggregate.stratified_estimate(getattr(aggregate, name), TASKS_X, resamples=20_000)
    value, low, high = RLIABLE[name]
    assert found.value == pytest.approx(value, abs=1e-12) and found.n == 15
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.011)


def test_rliable_found_the_same_profile_and_improvement() -> None:
    np.testing.assert_allclose(aggregate.performance_profile(TASKS_X, TAUS).middle, RLIABLE_PROFILE, atol=1e-12)
    found = aggregate.improvement(TASKS_X, TASKS_Y, resamples=20_000)
    value, low, high = RLIABLE_IMPROVEMENT
    assert found.value == pytest.approx(value, abs=1e-12) and found.n == 15
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


@given(TABLES)
def test_point_values_follow_rliables_formulas(table: list[list[float]]) -> None:
    scores = np.array(table).T  # runs x tasks, as rliable has it
    tasks = [np.array(task) for task in table]
    assert aggregate.pooled_iqm(tasks) == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert aggregate.mean(tasks) == pytest.approx(scores.mean())
    assert aggregate.median(tasks) == pytest.approx(np.median(scores.mean(axis=0)))
    assert aggregate.optimality_gap(tasks) == pytest.approx(1 - np.minimum(scores, 1).mean())
    profile = aggregate.performance_profile(tasks, TAUS, resamples=10).middle
    np.testing.assert_allclose(profile, [(scores > tau).mean() for tau in TAUS], atol=1e-12)


@given(TABLES, st.integers(1, 5), st.integers(0, 99))
def test_improvement_counts_every_pair_of_runs(table: list[list[float]], runs: int, seed: int) -> None:
    x = [np.array(task) for task in table]
    y = [np.random.default_rng([seed, i]).integers(0, 9, size=runs) / 8 for i in range(len(x))]
    pairs = [[(a > b) + (a == b) / 2 for a, b in product(mine, other)] for mine, other in zip(x, y, strict=True)]
    found = aggregate.improvement(x, y, resamples=10).value
    assert found == pytest.approx(np.mean([np.mean(p) for p in pairs]))
    ranked = [
        mannwhitneyu(a, b, alternative="greater").statistic / (a.size * b.size) for a, b in zip(x, y, strict=True)
    ]
    assert found == pytest.approx(np.mean(ranked))


def test_values_worked_by_hand() -> None:
    tasks = [np.array([0.0, 0.2]), np.array([0.4, 1.0])]
    assert aggregate.pooled_iqm(tasks) == pytest.approx(0.3)  # of 0, 0.2, 0.4, 1 the middle two
    assert aggregate.mean(tasks) == aggregate.median(tasks) == pytest.approx((0.1 + 0.7) / 2)
    assert aggregate.optimality_gap([np.array([0.5, 3.0])]) == pytest.approx(0.25)  # what exceeds 1 is cut off
    profile = aggregate.performance_profile(tasks, np.array([-0.1, 0.0, 0.2, 0.3, 1.0]))
    np.testing.assert_allclose(profile.middle, [1, 3 / 4, 2 / 4, 2 / 4, 0])  # equal is not above
    better = aggregate.improvement(tasks, [np.array([0.2, 0.1]), np.array([0.4, 0.4])])
    assert better.value == pytest.approx(((0 + 0 + 0.5 + 1) / 4 + (0.5 + 0.5 + 1 + 1) / 4) / 2)


def test_each_task_is_resampled_by_itself() -> None:
    # Between tasks nothing moves: runs that agree within each task leave no width, however far the tasks are apart.
    apart = aggregate.stratified_estimate(aggregate.pooled_iqm, [np.full(4, 0.1), np.full(4, 0.9)])
    assert (apart.low, apart.high) == pytest.approx((apart.value, apart.value))
    # Two tasks of runs 0 and 1: resampled task means are 0, 1/2, 1 with chances 1/4, 1/2, 1/4, drawn independently, so
    # their mean is 0 with chance 1/16. Drawn together it would be 1/4; with 2.5 % in each tail both reach the ends.
    tasks = [np.array([0.0, 1.0])] * 2
    seen: list[np.ndarray] = []

    def mean(tasks: aggregate.Strata) -> np.ndarray:
        seen.append(aggregate.mean(tasks))
        return seen[-1]

    aggregate.stratified_estimate(mean, tasks, resamples=40_000)
    means = max(seen, key=np.size)
    np.testing.assert_allclose([(means == m / 4).mean() for m in range(5)], np.array([1, 4, 6, 4, 1]) / 16, atol=0.01)


def test_one_task_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(3).normal(size=7)
    assert aggregate.stratified_estimate(aggregate.pooled_iqm, [values]) == estimates.estimate(values)


def test_profile_intervals_enclose_the_profile_and_fall() -> None:
    line = aggregate.performance_profile(TASKS_X, np.linspace(-0.1, 1.1, 50))
    assert line.low is not None and line.high is not None
    assert (line.low <= line.middle).all() and (line.middle <= line.high).all()
    for part in (line.low, line.middle, line.high):
        assert (np.diff(part) <= 0).all() and (part[0], part[-1]) == (1.0, 0.0)


def test_a_task_with_one_run_has_no_interval() -> None:
    single, pair = np.array([0.3]), np.array([0.2, 0.4])
    assert aggregate.stratified_estimate(aggregate.mean, [pair, single]).low is None
    assert aggregate.performance_profile([pair, single], TAUS).low is None
    assert aggregate.improvement([pair], [single]) == estimates.Estimate(0.5, None, None, 2)


def test_tasks_of_unequal_runs_weigh_as_said() -> None:
    tasks = [np.zeros(6), np.ones(2)]
    assert aggregate.pooled_iqm(tasks) == pytest.approx(0.0)  # every run alike
    assert aggregate.mean(tasks) == 0.5  # every task alike
    assert aggregate.performance_profile(tasks, np.array([0.5])).middle == [0.5]
    with pytest.raises(ValueError):
        aggregate.improvement(tasks, tasks[:1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(4), 0
    for _ in range(200):
        tasks = list(rng.normal(size=(3, 12)))
        found = aggregate.stratified_estimate(aggregate.pooled_iqm, tasks, resamples=300)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.86 < hits / 200 < 0.99
