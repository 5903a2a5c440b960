"""Means of correlated series, with standard errors.

The estimate of standard errors is the Gamma method of Wolff (Comput. Phys. Commun. 156, 2004, arXiv
hep-lat/0306017).
"""

import dataclasses
import math

import numpy as np

from keras_svag._checks import one_of
from keras_svag.theory.statistics.intervals import CONFIDENCE, t_interval

AUTOCOVARIANCE, BATCH_MEANS = "autocovariance", "batch_means"
# Batch means are cut this many correlation times long, and not more than this many of them.
_TIMES_PER_BATCH = 10
_MAX_BATCHES = 20
# Wolff's S: the assumed ratio of the slowest decay to the correlation time.
_WINDOW_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class SeriesMean:
    """Mean of a correlated series.

    Attributes:
        mean: the mean.
        standard_error: its standard error; `inf` with fewer than two values.
        degrees_of_freedom: of the standard error.
        correlation_time: number of values that are worth one independent value, >= 1.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float
    correlation_time: float

    def interval(self, confidence=CONFIDENCE):
        """The t interval, an `Interval`."""
        return t_interval(self.mean, self.standard_error, self.degrees_of_freedom, confidence)


def series_mean(values, weights=None, method=AUTOCOVARIANCE):
    """Mean of a series whose successive values are correlated, with its standard error.

    Assumed: the series is stationary (see `relative_drift`); its correlations decay, and it is
    some ten correlation times long or longer (with five of them, 95 % intervals cover about 93 %);
    the variance of a value is inverse to its weight. Negative correlation is not credited: the
    standard error is never below that of independent values.

    Args:
        values: numbers in order of time. Values that are not finite are left out.
        weights: positive weights, such as the number of steps that a value is the mean of.
            Defaults to equal weights.
        method: `"autocovariance"`: sum of autocovariances up to a window that balances bias and
            noise. `"batch_means"`: spread of the means of up to 20 stretches, each of at least ten
            correlation times (as the first method finds them). Defaults to `"autocovariance"`.

    Returns:
        A `SeriesMean`.

    Raises:
        ValueError: if the lengths differ, a weight is not positive, or `method` is unknown.

    Example:

    >>> series_mean([1.0, 3.0, 1.0, 3.0]).mean
    2.0
    """
    one_of("method", method, (AUTOCOVARIANCE, BATCH_MEANS))
    values, weights = clean(values, weights)
    count = len(values)
    if count < 2:
        mean = float(values[0]) if count else math.nan
        return SeriesMean(mean, math.inf, 1.0, 1.0)
    mean = float(np.average(values, weights=weights))
    deviations = equalize(values - mean, weights)
    variance, freedom, time = long_run_variance(deviations, num_fitted=1)
    if method == BATCH_MEANS:
        means, totals = batch_means(values, weights, number_of_batches(count, time))
        freedom = len(means) - 1
        # Batches of unequal weight: the least-squares estimate of the variance.
        squares = totals * (means - mean) ** 2
        return SeriesMean(
            mean, math.sqrt(squares.sum() / totals.sum() / freedom), float(freedom), time
        )
    return SeriesMean(mean, math.sqrt(variance / count), freedom, time)


def clean(values, weights):
    """Returns values and weights as arrays, without the values that are not finite."""
    # As floats: JSON has None for what is not finite.
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


def equalize(deviations, weights):
    """Deviations scaled so that all have the variance of one with the mean weight."""
    return deviations * np.sqrt(weights / weights.mean())


def long_run_variance(deviations, num_fitted):
    """`sum over all lags of the autocovariance`, by Wolff's automatic window.

    Args:
        deviations: what is left of a series after fitting `num_fitted` smooth components.
        num_fitted: 1 for the mean, 2 for a straight line, and so on.

    Returns:
        A tuple: the variance, its degrees of freedom, and the correlation time.
    """
    count = len(deviations)
    covariances = _autocovariances(deviations)
    window = _window(covariances, count)
    total = covariances[0] + 2 * covariances[1 : window + 1].sum()
    if total <= covariances[0]:
        window, total = 0, covariances[0]
    time = total / covariances[0] if covariances[0] > 0 else 1.0
    width = 2 * window + 1
    # Each fitted component takes one independent value out of the deviations.
    correction = 1 + num_fitted * width / count if window else count / max(count - num_fitted, 1)
    freedom = max(count / width - num_fitted, 1.0)
    return float(total * correction), float(freedom), float(time)


def _autocovariances(deviations):
    count = len(deviations)
    length = 1 << (2 * count - 1).bit_length()  # no wrap-around
    spectrum = np.abs(np.fft.rfft(deviations, length)) ** 2
    return np.fft.irfft(spectrum, length)[:count] / count


def _window(covariances, count):
    """The first lag at which truncation costs less than the noise of what would be added."""
    if covariances[0] <= 0:
        return 0
    time = 0.5
    for lag in range(1, count // 2):
        time += covariances[lag] / covariances[0]
        decay = _WINDOW_FACTOR / math.log((2 * time + 1) / (2 * time - 1)) if time > 0.5 else 1e-9
        if math.exp(-lag / decay) < decay / math.sqrt(lag * count):
            return lag
    return max(count // 2 - 1, 0)


def number_of_batches(count, time):
    """Returns how many stretches are long enough to pass for independent."""
    return int(np.clip(count / (_TIMES_PER_BATCH * time), 2, _MAX_BATCHES))


def batch_means(values, weights, number):
    """Means and total weights of `number` stretches of as equal length as can be."""
    parts = zip(np.array_split(values, number), np.array_split(weights, number))
    means, totals = zip(*((np.average(v, weights=w), w.sum()) for v, w in parts))
    return np.array(means), np.array(totals)
