"""Tests of keras_svag/theory/statistics/equivalence.py."""

import numpy as np
import pytest
from scipy import stats

from keras_svag.theory import compare


def samples(ratio, spread, count, seed):
    rng = np.random.default_rng(seed)
    return ratio * np.exp(spread * rng.normal(size=count)), np.exp(spread * rng.normal(size=count))


@pytest.mark.parametrize(
    ("ratio", "outcome"), [(1.0, "equivalent"), (1.2, "different"), (1.05, "inconclusive")]
)
def test_outcomes(ratio, outcome):
    result = compare(*samples(ratio, 0.02, 20, 0), margin=0.05)
    assert result.outcome == outcome
    assert result.limits == (0.95, 1.05)


def test_interval_is_welch_on_the_logs():
    a, b = samples(1.1, 0.1, 12, 1)
    result = compare(a, b[:7], margin=0.2)
    expected = stats.ttest_ind(np.log(a), np.log(b[:7]), equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose(np.log([result.ratio.ci_low, result.ratio.ci_high]), expected)


def test_paired_interval_is_a_t_test_on_log_ratios():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=15)
    a, b = (np.exp(shared + 0.05 * rng.normal(size=15)) for _ in range(2))
    result = compare(a, b, margin=0.1, paired=True)
    expected = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.9)
    np.testing.assert_allclose(np.log([result.ratio.ci_low, result.ratio.ci_high]), expected)
    # What they share is a hundred times what tells them apart: unpaired shows nothing.
    assert result.outcome == "equivalent"
    assert compare(a, b, margin=0.1).outcome == "inconclusive"


def test_chance_of_a_wrong_equivalence_is_five_percent_at_most():
    # Two things that differ by exactly the margin are called equivalent in 5 % of 2,000 trials:
    # standard error 0.5 %, 4 of them.
    wrong = [
        compare(*samples(1.1, 0.05, 10, s), margin=0.1).outcome == "equivalent" for s in range(2000)
    ]
    assert 0.03 < np.mean(wrong) < 0.07


def test_power_is_the_chance_to_find_equivalence_of_equals():
    # 2,000 trials: standard error 1.1 %; the formula takes the spread of one sample as known,
    # which is good to some percent at 20 seeds.
    trials = [compare(*samples(1.0, 0.06, 20, s), margin=0.05) for s in range(2000)]
    found = np.mean([trial.outcome == "equivalent" for trial in trials])
    assert 0.3 < found < 0.95
    assert abs(np.mean([trial.power for trial in trials]) - found) < 0.08


@pytest.mark.parametrize("margin", [0, 1, -0.1, "5 %"], ids=repr)
def test_wrong_margin(margin):
    with pytest.raises(ValueError, match="`margin` must be a number in .*Received: margin="):
        compare([1.0, 1.0], [1.0, 1.0], margin)


def test_too_few_values_show_nothing():
    result = compare([1.0], [1.0, 1.1], margin=0.5)
    assert (result.outcome, result.power) == ("inconclusive", 0.0)
