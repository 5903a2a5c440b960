"""Tests of keras_svag/theory/statistics/drift.py."""

import math

import numpy as np
import pytest

from keras_svag.theory import relative_drift
from tests.theory.helpers import autoregression, coverage_error


def test_drift_of_a_line():
    interval = relative_drift(10 + 0.1 * np.arange(20), confidence=0.99)
    expected = 2.0 / (10 + 0.1 * 9.5)
    np.testing.assert_allclose([interval.mean, interval.ci_low, interval.ci_high], expected)


def test_drift_is_least_squares_on_time():
    rng = np.random.default_rng(0)
    lengths, values = rng.uniform(0.5, 2.0, 30), rng.normal(5, 1, 30)
    middles = np.cumsum(lengths) - lengths / 2
    slope, _ = np.polyfit(middles, values, 1, w=np.sqrt(lengths))
    mean = np.average(values, weights=lengths)
    np.testing.assert_allclose(
        relative_drift(values, lengths).mean, slope * lengths.sum() / mean, rtol=1e-9
    )


@pytest.mark.parametrize(("phi", "length"), [(0.0, 30), (0.5, 60), (0.8, 200)], ids=str)
def test_drift_covers(phi, length):
    # A trend of 40 % of the mean under correlated noise of 10 %; 0.015 for the approximations (in
    # 6000 simulations the three were covered with 0.957, 0.945 and 0.946).
    truth = 0.4
    trend = 1 + truth * (np.arange(length) - (length - 1) / 2) / length
    hits = 0
    for noise in autoregression(np.random.default_rng(6), 1000, length, phi):
        interval = relative_drift(trend + 0.1 * noise)
        hits += interval.ci_low <= truth <= interval.ci_high
    assert abs(hits / 1000 - 0.95) < 0.015 + coverage_error(0.95, 1000)


def test_drift_that_cannot_be_told():
    rng = np.random.default_rng(1)
    around_zero = relative_drift(rng.normal(0, 1, 40))
    assert (around_zero.ci_low, around_zero.ci_high) == (-math.inf, math.inf)
    few = relative_drift([1.0, 2.0, 3.0])
    assert (few.ci_low, few.ci_high) == (-math.inf, math.inf)
