"""Tests of the verdict on branches, and of the critical factor."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.theory import critical_factor, judge_branch


def test_verdict_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    for excess in np.linspace(-0.1, 0.4, 26):
        base = np.exp(rng.normal(size=6))  # seeds differ by far more than branches
        other = base * (1 + excess + 0.05 * rng.normal(size=6))
        found = judge_branch(base, other, tolerance=0.1)
        level = stats.ttest_1samp(other - 1.1 * base, 0.0, alternative="less").pvalue
        expected = "holds" if level < 0.025 else "fails" if level > 0.975 else "inconclusive"
        assert found.verdict == expected


def test_looks_cost_confidence():
    base, other = [1.0, 1.2, 0.9, 1.1], [1.05, 1.25, 0.93, 1.14]
    assert judge_branch(base, other, 0.1).verdict == "holds"
    assert judge_branch(base, other, 0.1, look=9).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("base", "other", "verdict"),
    [
        ([1.0, 1.0, 1.0], [math.nan] * 3, "fails"),  # every other branch diverged
        ([1.0, 1.0, 1.0], [math.nan, 1.0, 1.0], "inconclusive"),  # one did
        ([1.0, 1.0, 1.0], [math.nan, 1.5, 1.5], "fails"),
        ([math.nan] * 3, [1.0, 1.0, 1.0], "inconclusive"),
        ([1.0], [1.0], "inconclusive"),  # one seed has no interval
        ([], [], "inconclusive"),
    ],
)
def test_failed_runs(base, other, verdict):
    assert judge_branch(base, other, tolerance=0.1).verdict == verdict


@pytest.mark.parametrize("base", [[0.0, 0.0, 0.0], [-1.0, -1.1, -0.9], [1.0, 0.0, 1.0]])
def test_a_tolerance_relative_to_a_loss_that_is_not_positive_says_nothing(base):
    found = judge_branch(base, base, tolerance=0.1)
    assert found.verdict == "inconclusive" and "not positive" in found.reason
    assert math.isnan(critical_factor({1: base, 2: base}, tolerance=0.1).mean)


def test_critical_factor_by_interpolation():
    # Loss kappa^0.1 crosses 1.1 at 1.1^10, whatever the grid and the loss of the seed.
    losses = {k: [s * k**0.1 for s in (1.0, 3.0)] for k in (0.5, 1, 2, 4, 8)}
    found = critical_factor(losses, tolerance=0.1)
    assert found.mean == found.ci_low == found.ci_high == pytest.approx(1.1**10)


def test_interval_of_the_critical_factor_is_over_seeds():
    powers = np.array([0.08, 0.1, 0.12, 0.15])
    losses = {k: k**powers for k in (1, 2, 4, 8, 16)}
    found = critical_factor(losses, tolerance=0.1)
    logs = math.log(1.1) / powers
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    expected = np.exp([logs.mean(), low, high])
    np.testing.assert_allclose([found.mean, found.ci_low, found.ci_high], expected)


def test_a_loss_within_the_tolerance_at_the_end_leaves_it_open():
    found = critical_factor({1: [1.0, 1.0], 4: [1.0, 1.3]}, tolerance=0.1)
    assert found.ci_high == math.inf and found.ci_low < 4
    assert critical_factor({1: [1.0], 4: [1.05]}, tolerance=0.1).mean == 4


def test_the_largest_factor_within_the_tolerance_counts():
    # 2 is outside by chance, 4 is inside.
    found = critical_factor({1: [1.0], 2: [1.2], 4: [1.0], 8: [1.21]}, tolerance=0.1)
    assert found.mean == pytest.approx(4 * math.sqrt(2))


def test_a_branch_that_failed_is_beyond():
    found = critical_factor({1: [1.0, 1.0], 4: [1.0, 1.0], 8: [math.nan] * 2}, tolerance=0.1)
    assert (found.mean, found.ci_high) == (4.0, 4.0)
