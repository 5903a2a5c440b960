"""Means of correlated series, with standard errors."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import one_of
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, t_interval

AUTOCOVARIANCE, BATCH_MEANS = "autocovariance", "batch_means"
# A batch is at least this many correlation times long.
_TIMES_PER_BATCH = 10
_MAX_BATCHES = 20
# Wolff's S: the assumed ratio of the slowest decay to the correlation time.
_WINDOW_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class SeriesMean:
    """Mean of a correlated series.

    Attributes:
        mean: The mean.
        standard_error: Its standard error; `inf` with fewer than two values.
        degrees_of_freedom: Degrees of freedom of the standard error.
        correlation_time: Number of values that are worth one independent value, >= 1.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float
    correlation_time: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Returns the t interval of the mean."""
        return t_interval(self.mean, self.standard_error, self.degrees_of_freedom, confidence)


def series_mean(
    values: ArrayLike, weights: ArrayLike | None = None, method: str = AUTOCOVARIANCE
) -> SeriesMean:
    """Mean of a series whose successive values are correlated, with its standard error.

    The series must be stationary (see `relative_drift`) and at least some ten correlation times
    long (with five, 95 % intervals cover about 93 %). Variances are taken as inverse to weights.

    Args:
        values: Numbers in order of time. Values that are not finite are dropped.
        weights: Positive numbers, such as numbers of steps. Defaults to `None`, equal weights.
        method: `"autocovariance"`, the Gamma method of
            [Wolff, 2004](https://arxiv.org/abs/hep-lat/0306017), or `"batch_means"`, the spread of
            the means of up to 20 batches. Defaults to `"autocovariance"`.

    Returns:
        A `SeriesMean`.

    Raises:
        ValueError: If the lengths differ, a weight is not positive, or `method` is unknown.

    Example:

    >>> series_mean([1.0, 3.0, 1.0, 3.0]).mean
    2.0
    """
    one_of("method", method, (AUTOCOVARIANCE, BATCH_MEANS))
    values, weights = drop_nonfinite(values, weights)
    count = len(values)
    if count < 2:
        mean = float(values[0]) if count else math.nan
        return SeriesMean(mean, math.inf, 1.0, 1.0)
    mean = float(np.average(values, weights=weights))
    deviations = equalize(values - mean, weights)
    variance, dof, time = long_run_variance(deviations, num_fitted=1)
    if method == BATCH_MEANS:
        means, totals = batch_means(values, weights, number_of_batches(count, time))
        dof = float(len(means) - 1)
        # Least-squares estimate of the variance of batches of unequal weight.
        squares = totals * (means - mean) ** 2
        return SeriesMean(mean, math.sqrt(squares.sum() / totals.sum() / dof), dof, time)
    return SeriesMean(mean, math.sqrt(variance / count), dof, time)


def drop_nonfinite(values: ArrayLike, weights: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the finite values and their weights (1 by default) as arrays of floats."""
    # As floats, since JSON has None for NaN.
    values = np.asarray(values, float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    if values.shape != weights.shape or values.ndim != 1:
        raise ValueError(
            "`values` and `weights` must be lists of the same length. Received: values of shape "
            f"{values.shape}, weights of shape {weights.shape}"
        )
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"`weights` must be positive. Received: weights={weights}")
    finite = np.isfinite(values)
    return values[finite], weights[finite]


def equalize(deviations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scales deviations to the variance of one with the mean weight."""
    return deviations * np.sqrt(weights / weights.mean())


def long_run_variance(deviations: np.ndarray, num_fitted: int) -> tuple[float, float, float]:
    """Sum of all autocovariances by Wolff's window, its degrees of freedom, correlation time."""
    count = len(deviations)
    covariances = _autocovariances(deviations)
    window = _window(covariances, count)
    total = covariances[0] + 2 * covariances[1 : window + 1].sum()
    if total <= covariances[0]:
        window, total = 0, covariances[0]
    time = total / covariances[0] if covariances[0] > 0 else 1.0
    width = 2 * window + 1
    # Each fitted coefficient (the mean, a slope) takes one independent value from the deviations.
    correction = 1 + num_fitted * width / count if window else count / max(count - num_fitted, 1)
    dof = max(count / width - num_fitted, 1.0)
    return float(total * correction), float(dof), float(time)


def _autocovariances(deviations: np.ndarray) -> np.ndarray:
    count = len(deviations)
    length = 1 << (2 * count - 1).bit_length()  # zero padding: no wrap-around
    spectrum = np.abs(np.fft.rfft(deviations, length)) ** 2
    return np.fft.irfft(spectrum, length)[:count] / count


def _window(covariances: np.ndarray, count: int) -> int:
    """First lag at which the bias of truncation is below the noise of one more term."""
    if covariances[0] <= 0:
        return 0
    time = 0.5
    for lag in range(1, count // 2):
        time += covariances[lag] / covariances[0]
        decay = _WINDOW_FACTOR / math.log((2 * time + 1) / (2 * time - 1)) if time > 0.5 else 1e-9
        if math.exp(-lag / decay) < decay / math.sqrt(lag * count):
            return lag
    return max(count // 2 - 1, 0)


def number_of_batches(count: int, time: float) -> int:
    """Number of batches that are long enough to be treated as independent."""
    return int(np.clip(count / (_TIMES_PER_BATCH * time), 2, _MAX_BATCHES))


def batch_means(
    values: np.ndarray, weights: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means and total weights of `number` batches of nearly equal length."""
    batches = zip(np.array_split(values, number), np.array_split(weights, number))
    means, totals = zip(*((np.average(v, weights=w), w.sum()) for v, w in batches))
    return np.array(means), np.array(totals)
