"""Closeness of runs and the verdict on an SDE, with intervals over seeds.

Two runs are C-close when squared weight norm R, gradient noise N and gradient signal G each agree
within a factor C (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5). SGD is judged against the
limit l -> infinity of SVAG(l), extrapolated from the two largest l with the first-order error of
their Theorem 4.3: being close to SVAG(l) itself is weaker (for l <= C^2 it says nothing).
"""

import dataclasses
import math

import numpy as np

from keras_svag._checks import english_list, finite_float
from keras_svag.theory.outcomes import INCONCLUSIVE, INVALID, VALID
from keras_svag.theory.quantities import NAMES, QUANTITIES
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_interval

DEFAULT_CLOSENESS = math.sqrt(2.0)


def extrapolate(ell_a, values_a, ell_b, values_b):
    """Limit l -> infinity of a quantity known at two l, its error being of order 1/l.

    `Q_inf = (l_b Q_b - l_a Q_a) / (l_b - l_a)`, seed by seed; for `l_b = 2 l_a` that is
    `2 Q(2 l) - Q(l)`.

    Args:
        ell_a: the smaller amplification.
        values_a: the quantity at `ell_a`, one number per seed.
        ell_b: the larger amplification.
        values_b: the quantity at `ell_b`, for the same seeds.

    Returns:
        An array with one number per seed.

    Example:

    >>> extrapolate(4, [1.25], 8, [1.125])  # 1 + 1/l
    array([1.])
    """
    values_a, values_b = np.asarray(values_a, float), np.asarray(values_b, float)
    return (ell_b * values_b - ell_a * values_a) / (ell_b - ell_a)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the intervals allow to say.

    Attributes:
        verdict: `"valid"`, `"invalid"` or `"inconclusive"`.
        reason: what follows "SGD" in a sentence; for "inconclusive" with what would settle it.
        measured_closeness: `Interval`, the largest factor by which a quantity differs.
        ratios: dict from quantity to the `Interval` of its ratio.
    """

    verdict: str
    reason: str
    measured_closeness: Interval
    ratios: dict


def judge(sgd, limit, closeness=DEFAULT_CLOSENESS, confidence=CONFIDENCE):
    """Verdict on whether SGD is C-close to its SDE.

    "valid" if every ratio's interval lies inside `[1/C, C]`; "invalid" if some interval,
    Bonferroni-corrected for the number of quantities, lies wholly outside; else "inconclusive".

    Args:
        sgd: dict from quantity to one number per seed, of the SGD runs.
        limit: the same of the SDE, extrapolated with `extrapolate`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: if `closeness` is not greater than 1.

    Example:

    >>> judge({"weight_norm": [1.0, 1.01]}, {"weight_norm": [1.0, 1.02]}).verdict
    'valid'
    """
    validate_closeness(closeness)
    ratios = {q: ratio_interval(sgd[q], limit[q], confidence) for q in sgd}
    strict = 1 - (1 - confidence) / len(ratios)
    outside = [q for q in sgd if _is_outside(ratio_interval(sgd[q], limit[q], strict), closeness)]
    undecided = [
        q for q, r in ratios.items() if not (1 / closeness <= r.ci_low and r.ci_high <= closeness)
    ]
    measured = _measured_closeness(ratios.values())
    if outside:
        listed = english_list([f"{_name(q)} (ratio {ratios[q].mean:.3g})" for q in outside])
        reason = f"differs from the SDE by more than a factor {closeness:.3g} in {listed}."
        return Verdict(INVALID, reason, measured, ratios)
    if not undecided:
        reason = (
            f"agrees with the SDE within a factor {closeness:.3g} in every quantity "
            f"(measured {measured.mean:.3g}, at most {measured.ci_high:.3g})."
        )
        return Verdict(VALID, reason, measured, ratios)
    reason = _why_undecided({q: ratios[q] for q in undecided}, closeness)
    return Verdict(INCONCLUSIVE, reason, measured, ratios)


def _why_undecided(ratios, closeness):
    """What follows "SGD" where the intervals of these ratios leave the verdict open."""
    missing = [_name(q) for q, ratio in ratios.items() if math.isnan(ratio.mean)]
    wide = [_describe(q, ratio) for q, ratio in ratios.items() if not math.isnan(ratio.mean)]
    causes, remedies = [], []
    if wide:
        subject, verb, them = ("intervals", "are", "them") if wide[1:] else ("interval", "is", "it")
        causes.append(f"the {subject} of {english_list(wide)} {verb} too wide")
        remedies.append(f"More seeds or longer runs would narrow {them}.")
    if missing:
        where = "in some seed of SGD or of the SDE"
        causes.append(f"{english_list(missing)} came out negative or zero {where}")
        remedies.append("Longer runs or larger ell would make such values rarer.")
    return (
        f"was neither shown to agree with the SDE within a factor {closeness:.3g} nor to differ by "
        f"more: {'; '.join(causes)}. {' '.join(remedies)}"
    )


def _describe(quantity, ratio):
    ends = "unbounded"
    if math.isfinite(ratio.ci_high):
        ends = f"{ratio.ci_low:.3g} to {ratio.ci_high:.3g}"
    return f"{_name(quantity)} (ratio {ratio.mean:.3g}, {ends})"


def _name(quantity):
    return NAMES.get(quantity, quantity)


def closeness(a, b, confidence=CONFIDENCE):
    """The smallest C for which two sets of runs are C-close, with its interval.

    Each end of the interval errs with at most half of what `confidence` leaves to 1: the upper end
    is the largest upper end of all quantities (that of the quantity that differs most is enough);
    the lower end is the largest of all lower ends, any of which can err, hence Bonferroni.

    Args:
        a: dict from quantity (`weight_norm`, `gradient_noise`, `gradient_signal`) to one positive
            number per seed.
        b: the same of the other runs; extrapolated (`extrapolate`) if they stand for the SDE. In
            comparing batch sizes, N times the batch size takes the place of N.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`: the largest factor by which a quantity differs, 1 for none. It has no upper
        end where there are fewer than two seeds or a value is not positive.

    Raises:
        ValueError: if `a` and `b` do not have the same quantities.

    Example:

    >>> c = closeness({"weight_norm": [1.0, 1.0]}, {"weight_norm": [2.0, 2.0]})
    >>> round(c.mean, 9)
    2.0
    """
    if not a or set(a) != set(b):
        raise ValueError(
            "`a` and `b` must be dicts with the same quantities, such as "
            f"{', '.join(QUANTITIES)}. Received: a with {sorted(a)}, b with {sorted(b)}"
        )
    strict = 1 - (1 - confidence) / len(a)
    largest = _measured_closeness([ratio_interval(a[q], b[q], confidence) for q in a])
    lower = _measured_closeness([ratio_interval(a[q], b[q], strict) for q in a])
    return dataclasses.replace(largest, ci_low=lower.ci_low)


def validate_closeness(closeness):
    """Returns `closeness` as a float, or raises a `ValueError` that says what is wrong with it."""
    return finite_float("closeness", closeness, "a number > 1", minimum=1.0, exclusive=True)


def _is_outside(interval, closeness):
    return interval.ci_low > closeness or interval.ci_high < 1 / closeness


def _measured_closeness(ratios):
    factors = [_factor(ratio) for ratio in ratios]
    return Interval(
        max(f.mean for f in factors),
        max(f.ci_low for f in factors),
        max(f.ci_high for f in factors),
    )


def _factor(ratio):
    """A ratio as a factor >= 1, whichever of the two is larger."""
    if math.isnan(ratio.mean):
        return Interval(math.inf, 1.0, math.inf)
    mean, low, high = dataclasses.astuple(ratio)
    lowest = 1.0 if low <= 1 <= high else max(low, _inverse(high))
    return Interval(max(mean, _inverse(mean)), lowest, max(high, _inverse(low)))


def _inverse(number):
    return 1 / number if number > 0 else math.inf
