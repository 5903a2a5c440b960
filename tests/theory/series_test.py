"""Tests of keras_svag/theory/statistics/series.py, on AR(1) processes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_svag.theory import series_mean
from tests.theory.helpers import METHODS, autoregression, coverage_error, covered, wolff

SERIES = [(2, 0.0), (3, 0.0), (4, 0.9), (7, 0.5), (60, -0.5), (60, 0.0), (61, 0.5), (300, 0.9)]


@pytest.mark.parametrize(("length", "phi"), SERIES, ids=str)
def test_series_mean_is_wolffs(length, phi):
    rng = np.random.default_rng(length)
    [values] = autoregression(rng, 1, length, phi)
    weights = rng.uniform(0.5, 2.0, length)
    for chosen, weight in [(None, np.ones(length)), (weights, weights)]:
        estimate = series_mean(values, chosen)
        mean = np.average(values, weights=weight)
        # Of variance 1/weight each, brought to that of one with the mean weight.
        deviations = (values - mean) * np.sqrt(weight / weight.mean())
        variance, freedom, time = wolff(deviations.tolist(), num_fitted=1)
        assert estimate.mean == pytest.approx(mean)
        assert estimate.standard_error == pytest.approx(math.sqrt(variance / length))
        assert estimate.degrees_of_freedom == pytest.approx(freedom)
        assert estimate.correlation_time == pytest.approx(time)
        half = stats.t.ppf(0.95, freedom) * estimate.standard_error
        assert estimate.interval(0.9).ci_high == pytest.approx(mean + half)
        assert estimate.interval(0.9).ci_low == pytest.approx(mean - half)


@pytest.mark.parametrize(("length", "phi"), SERIES, ids=str)
def test_batch_means_are_those_of_long_enough_batches(length, phi):
    rng = np.random.default_rng(length)
    [values] = autoregression(rng, 1, length, phi)
    weights = rng.uniform(0.5, 2.0, length)
    estimate = series_mean(values, weights, "batch_means")
    # Of ten correlation times, but two at least and 20 at most.
    number = min(max(int(length / (10 * estimate.correlation_time)), 2), 20)
    parts = np.array_split(np.arange(length), number)
    means = [np.average(values[part], weights=weights[part]) for part in parts]
    totals = np.array([weights[part].sum() for part in parts])
    mean = np.average(means, weights=totals)
    variance = np.sum(totals * (means - mean) ** 2) / (number - 1) / totals.sum()
    assert estimate.mean == pytest.approx(mean)
    assert estimate.degrees_of_freedom == number - 1
    assert estimate.standard_error == pytest.approx(math.sqrt(variance))


# Means of correlated series: AR(1), whose mean has a variance in closed form.


def variance_of_mean(length, phi):
    """Variance of the mean of an AR(1) series, `sum_ij phi^|i - j| / length^2`."""
    lags = np.arange(1, length)
    return (length + 2 * np.sum((length - lags) * phi**lags)) / length**2


@pytest.mark.parametrize(
    ("phi", "length"), [(0.0, 50), (0.0, 400), (0.5, 100), (0.8, 400), (0.9, 1000)], ids=str
)
def test_intervals_of_correlated_series_cover(phi, length):
    # Both methods rest on approximations for short series. In 6000 simulations of these five
    # cases coverage was 0.951 to 0.960 (autocovariance) and 0.940 to 0.950 (batch means): hence
    # 0.015 beside the 4 standard errors of 1000 simulations.
    series = autoregression(np.random.default_rng(7), 1000, length, phi)
    for method in METHODS:
        estimates = [series_mean(values, method=method) for values in series]
        error = abs(covered(estimates, 0.0) - 0.95)
        assert error < 0.015 + coverage_error(0.95, 1000), method
    if phi >= 0.5:  # what the formula for independent values would do
        naive = np.abs(series.mean(axis=1)) / stats.sem(series, axis=1)
        assert np.mean(naive < 1.96) < 0.8


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8], ids=str)
def test_standard_error_is_that_of_the_closed_form(phi):
    # The estimates of the variance scatter with relative variance 2 / degrees of freedom. White
    # noise is overestimated, since a negative autocorrelation is not credited: by the mean of
    # max(0, 2 rho), with rho normal of variance 1/n: 2 / sqrt(2 pi n) = 2.5 %.
    length, count = 1000, 200
    series = autoregression(np.random.default_rng(1), count, length, phi)
    for method in METHODS:
        estimates = [series_mean(values, method=method) for values in series]
        ratio = np.mean([e.standard_error**2 for e in estimates]) / variance_of_mean(length, phi)
        freedom = np.mean([e.degrees_of_freedom for e in estimates])
        # 5 %: batches of ten correlation times are still a little correlated.
        assert abs(ratio - 1) < 0.05 + 4 * math.sqrt(2 / freedom / count), method


def test_correlation_time():
    # 1 + 2 sum phi^t = (1 + phi) / (1 - phi) = 9; the relative error of the time is about
    # sqrt(2 (2 W + 1) / n), with a window W of some 20.
    [values] = autoregression(np.random.default_rng(5), 1, 40000, 0.8)
    time = series_mean(values).correlation_time
    assert abs(time / 9 - 1) < 4 * math.sqrt(2 * 41 / 40000)


def test_negative_correlation_is_not_credited():
    series = autoregression(np.random.default_rng(2), 50, 200, -0.5)
    for values in series:
        estimate = series_mean(values)
        assert estimate.correlation_time == 1.0
        np.testing.assert_allclose(estimate.standard_error, stats.sem(values), rtol=1e-12)


def test_rows_of_different_length_cover():
    # Rows are means over 1 to 9 steps of an AR(1) process; the mean over steps is wanted. 0.015
    # as above.
    rng = np.random.default_rng(11)
    lengths = rng.integers(1, 10, 150)
    ends = np.cumsum(lengths)
    estimates = {method: [] for method in METHODS}
    for steps in autoregression(rng, 1000, ends[-1], 0.7):
        rows = np.add.reduceat(steps, [0, *ends[:-1]]) / lengths
        for method in METHODS:
            estimates[method].append(series_mean(rows, lengths, method))
            np.testing.assert_allclose(estimates[method][-1].mean, steps.mean(), atol=1e-12)
    for method in METHODS:
        error = abs(covered(estimates[method], 0.0) - 0.95)
        assert error < 0.015 + coverage_error(0.95, 1000), method


VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=60)


@given(VALUES, st.floats(-5, 5).filter(lambda a: abs(a) > 0.01), st.floats(-100, 100))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_units_do_not_matter(values, scale, shift):
    values = np.round(values, 3)
    for method in METHODS:
        one = series_mean(values, method=method)
        other = series_mean(scale * values + shift, method=method)
        tolerance = 1e-9 * (1 + np.abs(values).max())
        assert other.mean == pytest.approx(scale * one.mean + shift, abs=10 * tolerance)
        if np.ptp(values) > 0.1 and one.correlation_time == pytest.approx(other.correlation_time):
            error = abs(scale) * one.standard_error
            assert other.standard_error == pytest.approx(error, rel=1e-6, abs=tolerance)


@given(VALUES, st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_mean_is_the_weighted_mean_and_errors_are_not_negative(values, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 5.0, len(values))
    for method in METHODS:
        estimate = series_mean(values, weights, method)
        assert estimate.mean == pytest.approx(np.average(values, weights=weights), abs=1e-9)
        assert estimate.standard_error >= 0
        assert estimate.degrees_of_freedom >= 1
        assert estimate.correlation_time >= 1


def test_series_without_spread():
    for method in METHODS:
        estimate = series_mean([2.0] * 12, method=method)
        assert (estimate.mean, estimate.standard_error) == (2.0, 0.0)
        assert estimate.interval().ci_high == 2.0


def test_series_that_are_too_short():
    nothing = series_mean([])
    assert math.isnan(nothing.mean) and nothing.standard_error == math.inf
    assert (nothing.degrees_of_freedom, nothing.correlation_time) == (1.0, 1.0)
    one = series_mean([3.0, math.nan, None])
    assert one.mean == 3.0
    assert (one.interval().ci_low, one.interval().ci_high) == (-math.inf, math.inf)
    assert math.isfinite(series_mean([1.0, 2.0]).standard_error)


def test_series_refuse_bad_input():
    with pytest.raises(ValueError, match="must be lists of the same length. Received: values of"):
        series_mean([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="`weights` must be positive. Received: weights="):
        series_mean([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="`weights` must be positive. Received: weights="):
        series_mean([1.0, 2.0], [1.0, math.inf])
    with pytest.raises(ValueError, match=r"Received: values of shape \(1, 2\)"):
        series_mean([[1.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="`method` must be one of 'autocovariance', 'batch_means'"):
        series_mean([1.0, 2.0], method="bootstrap")
