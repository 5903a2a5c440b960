"""Closeness of two sets of runs, and the verdict on the SDE as a model of SGD.

Two runs are C-close if R, N and G each agree within a factor C (Li, Malladi, Arora 2021, arXiv
2102.12470, section 5).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import english_list, finite_float
from keras_svag.theory.outcomes import INCONCLUSIVE, INVALID, VALID
from keras_svag.theory.quantities import DISPLAY_NAMES, QUANTITIES
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_interval

DEFAULT_CLOSENESS = math.sqrt(2.0)


def extrapolate(ell_a: float, values_a: ArrayLike, ell_b: float, values_b: ArrayLike) -> np.ndarray:
    """Extrapolates a quantity known at two l to the limit l -> infinity, the SDE.

    Removes the error of order 1/l of Theorem 4.3, seed by seed:
    `Q_inf = (l_b Q_b - l_a Q_a) / (l_b - l_a)`, which is `2 Q(2 l) - Q(l)` for `l_b = 2 l_a`.

    Args:
        ell_a: The smaller amplification.
        values_a: The quantity at `ell_a`, one number per seed.
        ell_b: The larger amplification.
        values_b: The quantity at `ell_b`, for the same seeds.

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
    """Verdict on the SDE as a model of SGD.

    Attributes:
        verdict: `"valid"`, `"invalid"` or `"inconclusive"`.
        reason: Rest of a sentence that begins with "SGD".
        measured_closeness: `Interval` of the largest factor by which a quantity differs.
        ratios: Dict from quantity to the `Interval` of its ratio.
    """

    verdict: str
    reason: str
    measured_closeness: Interval
    ratios: dict[str, Interval]


def judge(
    sgd: Mapping[str, ArrayLike],
    limit: Mapping[str, ArrayLike],
    closeness: float = DEFAULT_CLOSENESS,
    confidence: float = CONFIDENCE,
) -> Verdict:
    """Judges if SGD is C-close to its SDE.

    "valid" if the interval of every ratio lies inside `[1/C, C]`; "invalid" if some interval,
    Bonferroni-corrected for the number of quantities, lies wholly outside; else "inconclusive".

    Args:
        sgd: Dict from quantity to one number per seed, of the SGD runs.
        limit: The same of the SDE, from `extrapolate`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: Confidence of the intervals, in (0, 1). Defaults to `0.95`.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: If `closeness` is not greater than 1.

    Example:

    >>> judge({"weight_norm": [1.0, 1.01]}, {"weight_norm": [1.0, 1.02]}).verdict
    'valid'
    """
    validate_closeness(closeness)
    ratios = {q: ratio_interval(sgd[q], limit[q], confidence) for q in sgd}
    strict = 1 - (1 - confidence) / len(ratios)
    outside = [q for q in sgd if _is_outside(ratio_interval(sgd[q], limit[q], strict), closeness)]
    undecided = {
        q: r
        for q, r in ratios.items()
        if not (1 / closeness <= r.ci_low and r.ci_high <= closeness)
    }
    measured = _largest_factor(ratios.values())
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
    return Verdict(INCONCLUSIVE, _why_undecided(undecided, closeness), measured, ratios)


def _why_undecided(ratios: Mapping[str, Interval], closeness: float) -> str:
    """Rest of the sentence "SGD ..." about ratios whose intervals leave the verdict open."""
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


def _describe(quantity: str, ratio: Interval) -> str:
    ends = "unbounded"
    if math.isfinite(ratio.ci_high):
        ends = f"{ratio.ci_low:.3g} to {ratio.ci_high:.3g}"
    return f"{_name(quantity)} (ratio {ratio.mean:.3g}, {ends})"


def _name(quantity: str) -> str:
    return DISPLAY_NAMES.get(quantity, quantity)


def closeness(
    a: Mapping[str, ArrayLike], b: Mapping[str, ArrayLike], confidence: float = CONFIDENCE
) -> Interval:
    """Smallest C for which two sets of runs are C-close.

    Args:
        a: Dict from quantity (`weight_norm`, `gradient_noise`, `gradient_signal`) to one positive
            number per seed.
        b: The same of the other runs. To compare batch sizes, use N times the batch size for N.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the largest factor by which a quantity differs, >= 1; infinite above
        with fewer than two seeds, or if a value is not positive.

    Raises:
        ValueError: If `a` and `b` do not have the same quantities.

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
    # The upper end errs only if that of the quantity that differs most does. The lower end errs if
    # any quantity's does: Bonferroni.
    strict = 1 - (1 - confidence) / len(a)
    largest = _largest_factor([ratio_interval(a[q], b[q], confidence) for q in a])
    lower = _largest_factor([ratio_interval(a[q], b[q], strict) for q in a])
    return dataclasses.replace(largest, ci_low=lower.ci_low)


def validate_closeness(closeness: float) -> float:
    """Returns `closeness` as a float; raises a `ValueError` unless it is > 1."""
    return finite_float("closeness", closeness, "a number > 1", minimum=1.0, exclusive=True)


def _is_outside(interval: Interval, closeness: float) -> bool:
    return interval.ci_low > closeness or interval.ci_high < 1 / closeness


def _largest_factor(ratios: Iterable[Interval]) -> Interval:
    factors = [dataclasses.astuple(_factor(ratio)) for ratio in ratios]
    return Interval(*map(max, zip(*factors)))


def _factor(ratio: Interval) -> Interval:
    """Turns a ratio below 1 into its inverse."""
    if math.isnan(ratio.mean):
        return Interval(math.inf, 1.0, math.inf)
    mean, low, high = dataclasses.astuple(ratio)
    lowest = 1.0 if low <= 1 <= high else max(low, _inverse(high))
    return Interval(max(mean, _inverse(mean)), lowest, max(high, _inverse(low)))


def _inverse(number: float) -> float:
    return 1 / number if number > 0 else math.inf
