"""Showing that two things agree: the interval of their ratio inside stated limits.

Two one-sided tests: with a 90 % interval the chance to call two things equivalent that differ by
more than the limits is at most 5 %. Overlapping intervals would show nothing.
"""

import dataclasses
import math

import numpy as np
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
    """Outcome of a comparison.

    Attributes:
        outcome: `"equivalent"`, `"different"` or `"inconclusive"`.
        ratio: `Interval` of the ratio of the two.
        limits: tuple, the smallest and largest ratio that counts as equivalent.
        power: chance to find equivalence if the two were equal, at this spread and sample size.
    """

    outcome: str
    ratio: Interval
    limits: tuple
    power: float


def compare(a, b, margin, paired=False, confidence=EQUIVALENCE_CONFIDENCE):
    """Compares two samples of positive numbers by the ratio of their (geometric) means.

    Args:
        a: one positive number per seed.
        b: one positive number per seed.
        margin: the ratio counts as equivalent between `1 - margin` and `1 + margin`; in (0, 1).
        paired: whether `a[i]` and `b[i]` belong to the same seed and share what it decides (such
            as initial weights), so that the ratio is taken seed by seed. Otherwise the samples
            are independent (Welch). Defaults to `False`.
        confidence: of the two-sided interval. Defaults to `0.9`.

    Returns:
        An `Equivalence`.

    Raises:
        ValueError: if `margin` is not between 0 and 1.

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
    freedom = len(a) - 1 if paired else len(a) + len(b) - 2
    return Equivalence(outcome, ratio, limits, _power(ratio, limits, confidence, freedom))


def _paired_ratio(a, b, confidence):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) < 2 or min(a.min(), b.min()) <= 0:
        return Interval(math.nan, 0.0, math.inf)
    logs = mean_interval(np.log(a) - np.log(b), confidence)
    return exponential(logs)


def _power(ratio, limits, confidence, freedom):
    """Chance that an interval of this width around an estimate of log 1 lies inside the limits."""
    if freedom < 1 or not (0 < ratio.ci_low and math.isfinite(ratio.ci_high)):
        return 0.0
    half = math.log(ratio.ci_high / ratio.ci_low) / 2
    room = np.log(limits) + [half, -half]
    if half == 0 or room[0] >= room[1]:
        return float(half == 0)
    error = half / stats.t.ppf(0.5 + confidence / 2, freedom)
    return float(np.diff(stats.norm.cdf(room / error))[0])
