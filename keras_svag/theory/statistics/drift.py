"""The change of a quantity over a stretch of a run."""

import math

import numpy as np

from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, t_interval
from keras_svag.theory.statistics.series import clean, equalize, long_run_variance

# Of the polynomial that noise is told from drift by: a short series would be taken for a curve.
_TREND_DEGREE, _VALUES_PER_DEGREE = 3, 12


def relative_drift(values, weights=None, confidence=CONFIDENCE):
    """Change of a quantity over a series, as a fraction of its mean.

    The slope of the least-squares line times the length of the series, over the mean. The
    standard error allows for correlated noise (see `series_mean`), noise being what a polynomial
    leaves (of degree 3 from 36 values on, else 2 or 1); the ratio is Fieller's, so that a mean that
    may be zero gives no ends.

    Args:
        values: numbers in order of time. Values that are not finite are left out.
        weights: positive weights, the lengths of time. Defaults to equal weights.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`; without ends where there are fewer than four values.

    Raises:
        ValueError: if the lengths differ or a weight is not positive.

    Example:

    >>> relative_drift([1.0, 2.0, 3.0, 4.0]).mean  # 4 units of time at 1 a unit, mean 2.5
    1.6
    """
    values, weights = clean(values, weights)
    count = len(values)
    if count < 4:
        return Interval(math.nan, -math.inf, math.inf)
    weights = weights / weights.mean()
    times = np.cumsum(weights) - weights / 2
    times = times - np.average(times, weights=weights)
    mean = np.average(values, weights=weights)
    spread = np.sum(weights * times**2)
    slope = np.sum(weights * times * values) / spread
    # What a curve leaves is noise; what the line leaves would count a bend as noise too.
    degree = int(np.clip(count // _VALUES_PER_DEGREE, 1, _TREND_DEGREE))
    curve = np.polynomial.Polynomial.fit(times, values, degree, w=np.sqrt(weights))
    residuals = equalize(values - curve(times), weights)
    variance, freedom, _ = long_run_variance(residuals, num_fitted=degree + 1)
    t = t_interval(0.0, 1.0, freedom, confidence).ci_high
    # The line's slope and mean are uncorrelated.
    return _ratio_of_uncorrelated(
        slope * count, mean, t**2 * variance * count**2 / spread, t**2 * variance / count
    )


def _ratio_of_uncorrelated(top, bottom, top_square, bottom_square):
    """`{rho : (top - rho bottom)^2 <= top_square + rho^2 bottom_square}`, of either sign."""
    ratio = float(top / bottom) if bottom else math.nan
    quadratic = bottom**2 - bottom_square
    if quadratic <= 0:
        return Interval(ratio, -math.inf, math.inf)
    root = math.sqrt(max((top * bottom) ** 2 - quadratic * (top**2 - top_square), 0.0))
    return Interval(
        ratio, float((top * bottom - root) / quadratic), float((top * bottom + root) / quadratic)
    )
