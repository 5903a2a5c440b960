"""Tests of keras_svag/theory/statistics/drift.py."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.theory import relative_drift
from tests.theory.helpers import autoregression, coverage_error, wolff


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


@pytest.mark.parametrize("length", [4, 5, 23, 24, 35, 36, 47, 48, 60])
def test_ends_of_the_drift_are_fiellers(length):
    rng = np.random.default_rng(length)
    lengths = rng.uniform(0.5, 2.0, length)
    [noise] = autoregression(rng, 1, length, 0.5)
    middles = np.cumsum(lengths) - lengths / 2
    values = 50 + 0.3 * middles + noise
    # A polynomial of degree 1, from 24 values on of degree 2, from 36 of degree 3.
    degree = 1 if length < 24 else 2 if length < 36 else 3
    curve = np.polyval(np.polyfit(middles, values, degree, w=np.sqrt(lengths)), middles)
    residuals = (values - curve) * np.sqrt(lengths / lengths.mean())
    variance, freedom, _ = wolff(residuals.tolist(), num_fitted=degree + 1)
    # Covariance of the line: each value has the variance `variance * lengths.mean() / lengths`.
    weights = lengths / lengths.mean()
    design = np.stack([np.ones(length), middles - np.average(middles, weights=lengths)], 1)
    covariance = variance * np.linalg.inv(design.T @ (weights[:, None] * design))
    mean, slope = np.linalg.solve(
        design.T @ (weights[:, None] * design), design.T @ (weights * values)
    )
    for confidence in (0.5, 0.95):
        t = stats.t.ppf((1 + confidence) / 2, freedom)
        interval = relative_drift(values, lengths, confidence)
        assert interval.mean == pytest.approx(slope * lengths.sum() / mean)
        for end in (interval.ci_low, interval.ci_high):
            contrast = slope * lengths.sum() - end * mean
            spread = covariance[1, 1] * lengths.sum() ** 2 + end**2 * covariance[0, 0]
            assert contrast**2 == pytest.approx(t**2 * spread, rel=1e-6)
        assert interval.ci_low < interval.mean < interval.ci_high


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
    assert math.isfinite(around_zero.mean)
    assert math.isnan(relative_drift([1.0, 2.0, -2.0, -1.0]).mean)
    few = relative_drift([1.0, 2.0, 3.0])
    assert math.isnan(few.mean)
    assert (few.ci_low, few.ci_high) == (-math.inf, math.inf)
