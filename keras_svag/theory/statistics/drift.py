"""Relative change of a quantity over a segment of a run."""

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, t_interval
from keras_svag.theory.statistics.series import drop_nonfinite, equalize, long_run_variance

# The trend is a polynomial of at most this degree. With fewer values per degree it would fit noise.
_MAX_TREND_DEGREE, _VALUES_PER_DEGREE = 3, 12


def relative_drift(
    values: ArrayLike, weights: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Change of a quantity over a series, relative to its mean.

    The slope of the least-squares line times the length of the series, divided by the mean
    (Fieller's ratio). Its standard error allows for correlated noise, as in `series_mean`.

    Args:
        values: Numbers in order of time. Values that are not finite are dropped.
        weights: Positive numbers, the lengths of time. Defaults to `None`, equal lengths.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`; unbounded with fewer than four values, or if the mean may be zero.

    Raises:
        ValueError: If the lengths differ or a weight is not positive.

    Example:

    >>> relative_drift([1.0, 2.0, 3.0, 4.0]).mean  # slope 1, length 4, mean 2.5
    1.6
    """
    series, lengths = drop_nonfinite(values, weights)
    count = len(series)
    if count < 4:
        return Interval(math.nan, -math.inf, math.inf)
    lengths = lengths / lengths.mean()
    times = np.cumsum(lengths) - lengths / 2
    times = times - np.average(times, weights=lengths)
    mean = np.average(series, weights=lengths)
    spread = np.sum(lengths * times**2)
    slope = np.sum(lengths * times * series) / spread
    # Residuals of a curve, since those of the line would count a bend as noise.
    degree = int(np.clip(count // _VALUES_PER_DEGREE, 1, _MAX_TREND_DEGREE))
    curve = np.polynomial.Polynomial.fit(times, series, degree, w=np.sqrt(lengths))
    residuals = equalize(series - curve(times), lengths)
    variance, dof, _ = long_run_variance(residuals, num_fitted=degree + 1)
    t = t_interval(0.0, 1.0, dof, confidence).ci_high
    # The line's slope and mean are uncorrelated.
    return _ratio_of_uncorrelated(
        slope * count, mean, t**2 * variance * count**2 / spread, t**2 * variance / count
    )


def _ratio_of_uncorrelated(
    top: float, bottom: float, top_square: float, bottom_square: float
) -> Interval:
    """Solves `(top - rho bottom)^2 <= top_square + rho^2 bottom_square` for rho of either sign."""
    ratio = float(top / bottom) if bottom else math.nan
    quadratic = bottom**2 - bottom_square
    if quadratic <= 0:
        return Interval(ratio, -math.inf, math.inf)
    root = math.sqrt(max((top * bottom) ** 2 - quadratic * (top**2 - top_square), 0.0))
    return Interval(
        ratio, float((top * bottom - root) / quadratic), float((top * bottom + root) / quadratic)
    )
