"""Helpers of the tests of theory: series and seeds, tolerances, comparisons."""

import math

import numpy as np
from scipy import signal

ELLS = (1, 2, 4, 8)
METHODS = ("autocovariance", "batch_means")


def coverage_error(level, count):
    """Four standard errors of a coverage estimated from `count` simulations."""
    return 4 * math.sqrt(level * (1 - level) / count)


def autoregression(rng, count, length, phi):
    """`count` stationary AR(1) series with variance 1."""
    noise = rng.normal(size=(count, length)) * math.sqrt(1 - phi**2)
    noise[:, 0] = rng.normal(size=count)
    return signal.lfilter([1.0], [1.0, -phi], noise, axis=1)


def covered(estimates, truth, confidence=0.95):
    intervals = [e.interval(confidence) for e in estimates]
    return np.mean([i.ci_low <= truth <= i.ci_high for i in intervals])


def interval_of(interval):
    return [interval.mean, interval.ci_low, interval.ci_high]


def raw_means(g1, g2):
    """Means of what a step logs as N and G."""
    return np.mean(np.sum((g1 - g2) ** 2, axis=1)) / 2, np.mean(np.sum(g1 * g2, axis=1))


def assert_moments(actual, mean, second, rtol):
    np.testing.assert_allclose(actual.mean, mean, rtol=0, atol=rtol * np.abs(mean).max())
    np.testing.assert_allclose(actual.second, second, rtol=0, atol=rtol * np.abs(second).max())


def wolff(deviations, num_fitted):
    """Variance, degrees of freedom and correlation time of Wolff's method, sum by sum."""
    count = len(deviations)
    gamma = [
        sum(a * b for a, b in zip(deviations, deviations[lag:])) / count for lag in range(count)
    ]
    window, time = max(count // 2 - 1, 0), 0.5
    for lag in range(1, count // 2):
        time += gamma[lag] / gamma[0]
        decay = 1e-9
        if time > 0.5:  # where exp(-1 / decay) is the ratio of successive autocorrelations
            decay = 1.5 / math.log((2 * time + 1) / (2 * time - 1))
        if math.exp(-lag / decay) < decay / math.sqrt(lag * count):
            window = lag
            break
    total = gamma[0] + 2 * sum(gamma[1 : window + 1])
    if total <= gamma[0]:  # negative correlation is not credited
        variance = gamma[0] * count / max(count - num_fitted, 1)
        return variance, max(count - num_fitted, 1), 1.0
    width = 2 * window + 1
    variance = total * (1 + num_fitted * width / count)
    return variance, max(count / width - num_fitted, 1), total / gamma[0]


def seeds(mean, spread=0.01, count=4):
    """Numbers with exactly this mean and standard deviation, relative to the mean."""
    values = np.arange(count) - (count - 1) / 2
    return mean * (1 + spread * values / values.std(ddof=1))


def study(error, spread=0.01, count=4, limit=1.0, ells=ELLS):
    """SVAG whose means are `limit (1 + error(ell))`."""
    return {ell: seeds(limit * (1 + error(ell)), spread, count) for ell in ells}


def failing(ell, count, of=4):
    values = study(lambda ell: 0.0, count=of)
    values[ell] = np.where(np.arange(of) < count, np.nan, values[ell])
    return {"weight_norm": values, "gradient_noise": {e: 2 * x for e, x in values.items()}}
