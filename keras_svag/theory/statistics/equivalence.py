"""Equivalence tests: the interval of a ratio inside stated limits."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from keras_svag._checks import finite_float
from keras_svag.theory.outcomes import DIFFERENT, EQUIVALENT, INCONCLUSIVE
from keras_svag.theory.statistics.intervals import (
    Interval,
    exponential,
    mean_interval,
    ratio_interval,
)

EQUIVALENCE_CONFIDENCE = 0.90


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Result of an equivalence test.

    Attributes:
        outcome: `"equivalent"`, `"different"` or `"inconclusive"`.
        ratio: `Interval` of the ratio.
        limits: Smallest and largest ratio that count as equivalent.
        power: Probability to find equivalence if the two are equal, at this spread and size.
    """

    outcome: str
    ratio: Interval
    limits: tuple[float, float]
    power: float


def compare(
    a: Sequence[float],
    b: Sequence[float],
    margin: float,
    paired: bool = False,
    confidence: float = EQUIVALENCE_CONFIDENCE,
) -> Equivalence:
    """Compares two samples of positive numbers by the ratio of their geometric means.

    These are two one-sided tests: a 90 % interval errs in at most 5 % of cases.

    Args:
        a: One positive number per seed.
        b: One positive number per seed.
        margin: Ratios from `1 - margin` to `1 + margin` count as equivalent; in (0, 1).
        paired: Whether `a[i]` and `b[i]` have the same seed, so that ratios are taken seed by
            seed. Otherwise the samples are independent (Welch). Defaults to `False`.
        confidence: Confidence of the two-sided interval, in (0, 1). Defaults to `0.9`.

    Returns:
        An `Equivalence`.

    Raises:
        ValueError: If `margin` is not between 0 and 1.

    Example:

    >>> compare([1.0, 1.01, 0.99], [1.0, 1.02, 0.99], margin=0.05).outcome
    'equivalent'
    """
    margin = finite_float("margin", margin, "a number in (0, 1)", 0.0, exclusive=True)
    if margin >= 1:
        raise ValueError(f"`margin` must be a number in (0, 1). Received: margin={margin}")
    limits = (1 - margin, 1 + margin)
    ratio = (_paired_ratio if paired else ratio_interval)(a, b, confidence)
    if limits[0] <= ratio.ci_low and ratio.ci_high <= limits[1]:
        outcome = EQUIVALENT
    elif ratio.ci_low > limits[1] or ratio.ci_high < limits[0]:
        outcome = DIFFERENT
    else:
        outcome = INCONCLUSIVE
    dof = len(a) - 1 if paired else len(a) + len(b) - 2
    return Equivalence(outcome, ratio, limits, _power(ratio, limits, confidence, dof))


def _paired_ratio(a: ArrayLike, b: ArrayLike, confidence: float) -> Interval:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) < 2 or min(a.min(), b.min()) <= 0:
        return Interval(math.nan, 0.0, math.inf)
    return exponential(mean_interval(np.log(a) - np.log(b), confidence))


def _power(ratio: Interval, limits: tuple[float, float], confidence: float, dof: int) -> float:
    """Probability that an interval of this width around an estimate of log 1 is inside `limits`."""
    if dof < 1 or not (0 < ratio.ci_low and math.isfinite(ratio.ci_high)):
        return 0.0
    half = math.log(ratio.ci_high / ratio.ci_low) / 2
    room = np.log(limits) + [half, -half]
    if half == 0 or room[0] >= room[1]:
        return float(half == 0)
    error = half / stats.t.ppf(0.5 + confidence / 2, dof)
    return float(np.diff(stats.norm.cdf(room / error))[0])
