"""Confidence intervals from independent values, such as one number per seed."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from keras_svag._checks import finite_float

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        mean: The estimate.
        ci_low: Lower end of the interval; `-inf` if it has none.
        ci_high: Upper end of the interval; `inf` if it has none.
    """

    mean: float
    ci_low: float
    ci_high: float

    def __str__(self) -> str:
        """Returns `"estimate [low, high]"`."""
        mean = drop_rounding_error(self.mean, self.ci_low, self.ci_high)
        return f"{mean:.3g} [{self.ci_low:.3g}, {self.ci_high:.3g}]"

    def to_json(self) -> dict[str, float | None]:
        """Returns a JSON-serializable dict, with `None` for values that are not finite."""
        return {
            name: value if math.isfinite(value) else None
            for name, value in dataclasses.asdict(self).items()
        }


def drop_rounding_error(mean: float, low: float, high: float) -> float:
    """Returns 0 for an estimate that is nothing but rounding, to be shown with its interval."""
    return 0.0 if abs(mean) < 1e-6 * (high - low) < math.inf else mean


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean over seeds with its t interval.

    Args:
        values: One number per seed.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

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


def t_interval(
    mean: float, standard_error: float, dof: float, confidence: float = CONFIDENCE
) -> Interval:
    """Student's t interval of an estimate; unbounded if its standard error is `inf`."""
    half = t_quantile(confidence, dof) * standard_error
    return Interval(float(mean), float(mean - half), float(mean + half))


def ratio_interval(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Ratio of two independent samples of positive numbers, by Welch's t interval of the logs.

    Args:
        a: One positive number per seed.
        b: One positive number per seed; may differ in length from `a`.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the ratio of geometric means `a / b`; from 0 to infinity if there are
        fewer than two values or one is not positive.

    Example:

    >>> ratio_interval([2.0, 2.0], [1.0, 1.0]).mean
    2.0
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) == 0 or len(b) == 0 or min(a.min(), b.min()) <= 0:
        return Interval(math.nan, 0.0, math.inf)
    return exponential(difference_interval(np.log(a), np.log(b), confidence))


def exponential(interval: Interval) -> Interval:
    """Interval of `exp(x)` from that of x; infinite where it overflows."""
    return Interval(*map(_exp, dataclasses.astuple(interval)))


def _exp(number: float) -> float:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def difference_interval(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Difference of the means of two independent samples, by Welch's t interval.

    Args:
        a: One number per seed.
        b: One number per seed, of other runs.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around `mean(a) - mean(b)`; unbounded with fewer than two values.

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
    # Relative to the total, since squares of the errors themselves may overflow.
    relative_a, relative_b = (error_a / error) ** 2, (error_b / error) ** 2
    dof = 1 / (relative_a**2 / (len(a) - 1) + relative_b**2 / (len(b) - 1))
    return t_interval(difference, error, dof, confidence)


def ratio_of_means(
    numerator: ArrayLike, denominator: ArrayLike, confidence: float = CONFIDENCE
) -> Interval:
    """Ratio of two paired means by Fieller's theorem.

    Unlike the delta method, it has no upper end if the denominator's interval reaches zero.

    Args:
        numerator: One number per seed.
        denominator: One number per seed, from the same runs.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

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
    # Products, since `**` raises an OverflowError.
    quadratic = bottom * bottom - t * t * cov[1][1]
    linear = top * bottom - t * t * cov[0][1]
    constant = top * top - t * t * cov[0][0]
    root = math.sqrt(max(linear * linear - quadratic * constant, 0.0))
    if quadratic > 0 and bottom > 0:
        return Interval(ratio, (linear - root) / quadratic, (linear + root) / quadratic)
    # The denominator is a squared norm, so it may be zero or came out negative: no upper end. The
    # lower end is the positive root, if the numerator is clearly positive.
    low = (linear - root) / quadratic if quadratic < 0 and constant > 0 else 0.0
    return Interval(ratio, max(low, 0.0), math.inf)


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of independent values."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def t_quantile(confidence: float, dof: float) -> float:
    """Half the width of a two-sided t interval, in standard errors."""
    return t_limit((1 - validate_confidence(confidence)) / 2, dof)


def validate_confidence(confidence: float) -> float:
    """Returns `confidence` as a float; raises a `ValueError` unless it is in (0, 1)."""
    confidence = finite_float("confidence", confidence, "a number in (0, 1)", 0.0, exclusive=True)
    if confidence >= 1:
        raise ValueError(
            f"`confidence` must be a number in (0, 1). Received: confidence={confidence}"
        )
    return confidence


def t_limit(alpha: float, dof: float) -> float:
    """Upper `alpha` quantile of Student's t distribution."""
    return float(-special.ndtri(alpha) if math.isinf(dof) else -special.stdtrit(dof, alpha))
