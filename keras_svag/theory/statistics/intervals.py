"""Estimates with confidence intervals, from independent values such as one number per seed."""

import dataclasses
import math

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A point estimate with its confidence interval.

    Attributes:
        mean: the estimate.
        ci_low: lower end of the interval.
        ci_high: upper end; `inf` where there is none.
    """

    mean: float
    ci_low: float
    ci_high: float

    def __str__(self):
        """The estimate with its interval in brackets, as texts have it."""
        return f"{self.mean:.3g} [{self.ci_low:.3g}, {self.ci_high:.3g}]"

    def to_json(self):
        """Returns a dict that JSON can hold: what is not finite becomes `None`."""
        return {
            name: value if math.isfinite(value) else None
            for name, value in dataclasses.asdict(self).items()
        }


def mean_interval(values, confidence=CONFIDENCE):
    """Mean over seeds with its t interval.

    Args:
        values: one number per seed.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`; unbounded with fewer than two values.

    Example:

    >>> mean_interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, ci_low=1.0, ci_high=1.0)
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        mean = float(values.mean()) if len(values) else math.nan
        return Interval(mean, -math.inf, math.inf)
    return t_interval(values.mean(), standard_error(values), len(values) - 1, confidence)


def t_interval(mean, standard_error, degrees_of_freedom, confidence=CONFIDENCE):
    """The t interval of an estimate with a known standard error.

    Args:
        mean: the estimate.
        standard_error: its standard error; `inf` gives an interval without ends.
        degrees_of_freedom: of the standard error; need not be an integer.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`.

    Example:

    >>> t_interval(1.0, 0.0, 3)
    Interval(mean=1.0, ci_low=1.0, ci_high=1.0)
    """
    half = t_quantile(confidence, degrees_of_freedom) * standard_error
    return Interval(float(mean), float(mean - half), float(mean + half))


def ratio_interval(a, b, confidence=CONFIDENCE):
    """Ratio of two independent samples of positive numbers, by Welch's t interval of the logs.

    Args:
        a: one positive number per seed.
        b: one positive number per seed; may differ in length from `a`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the ratio of geometric means `a / b`; from 0 to infinity where there
        are fewer than two values or one is not positive.

    Example:

    >>> ratio_interval([2.0, 2.0], [1.0, 1.0]).mean
    2.0
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) == 0 or len(b) == 0 or min(a.min(), b.min()) <= 0:
        return Interval(math.nan, 0.0, math.inf)
    difference = difference_interval(np.log(a), np.log(b), confidence)
    return exponential(difference)


def exponential(interval):
    """The interval of `exp(x)` for that of x; what no float can hold is infinite.

    Args:
        interval: an `Interval`.

    Returns:
        An `Interval`.
    """
    return Interval(*map(_exp, dataclasses.astuple(interval)))


def _exp(number):
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def difference_interval(a, b, confidence=CONFIDENCE):
    """Difference of the means of two independent samples, by Welch's t interval.

    Args:
        a: one number per seed.
        b: one number per seed, of other runs.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around `mean(a) - mean(b)`; without ends where there are fewer than two
        values.

    Example:

    >>> difference_interval([2.0, 2.0], [0.5, 0.5]).mean
    1.5
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    difference = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return Interval(difference, -math.inf, math.inf)
    error_a, error_b = standard_error(a), standard_error(b)
    error = math.hypot(error_a, error_b)
    if error == 0:
        return Interval(difference, difference, difference)
    # As shares of the whole: squares of the errors themselves might not be floats.
    share_a, share_b = (error_a / error) ** 2, (error_b / error) ** 2
    dof = 1 / (share_a**2 / (len(a) - 1) + share_b**2 / (len(b) - 1))
    half = t_quantile(confidence, dof) * error
    return Interval(difference, difference - half, difference + half)


def ratio_of_means(numerator, denominator, confidence=CONFIDENCE):
    """Ratio of two paired means by Fieller's theorem.

    Where the denominator's interval reaches zero the ratio has no upper end, which the delta
    method would hide.

    Args:
        numerator: one number per seed.
        denominator: one number per seed, from the same runs.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`.

    Example:

    >>> ratio_of_means([2.0, 2.0], [1.0, 1.0])
    Interval(mean=2.0, ci_low=2.0, ci_high=2.0)
    """
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    count = len(numerator)
    top, bottom = float(np.mean(numerator)), float(np.mean(denominator))
    ratio = top / bottom if bottom > 0 else math.inf
    if count < 2:
        return Interval(ratio, -math.inf, math.inf)
    t = t_quantile(confidence, count - 1)
    cov = (np.cov(numerator, denominator) / count).tolist()
    # {rho : (top - rho bottom)^2 <= t^2 var(top - rho bottom)} is a quadratic inequality in rho.
    # Products, not powers: of huge numbers Python has no power.
    quadratic = bottom * bottom - t * t * cov[1][1]
    linear = top * bottom - t * t * cov[0][1]
    constant = top * top - t * t * cov[0][0]
    discriminant = max(linear * linear - quadratic * constant, 0.0)
    if quadratic > 0 and bottom > 0:
        root = math.sqrt(discriminant)
        return Interval(ratio, (linear - root) / quadratic, (linear + root) / quadratic)
    # No upper end, nor anything else to say if the denominator, a squared norm, came out clearly
    # negative. The ratio's lower end is the positive root, if the numerator is clearly positive.
    low = (linear - math.sqrt(discriminant)) / quadratic if quadratic < 0 and constant > 0 else 0.0
    return Interval(ratio, max(low, 0.0), math.inf)


def standard_error(values):
    """Standard error of the mean of an array of independent values."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def t_quantile(confidence, dof):
    """Half the width of a two-sided t interval, in standard errors."""
    return float(stats.t.ppf(0.5 + confidence / 2, dof))
