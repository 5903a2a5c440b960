"""Closeness of runs and the verdict on an SDE, with intervals over seeds (NumPy only).

Two runs are C-close when squared weight norm R, gradient noise N and gradient signal G each agree
within a factor C (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5). SGD is judged against the
limit l -> infinity of SVAG(l), extrapolated from the two largest l with the first-order error of
their Theorem 4.3: being close to SVAG(l) itself is weaker (for l <= C^2 it says nothing).
"""

import dataclasses
import math

import numpy as np
from scipy import stats

from keras_svag._checks import finite_float, one_of
from keras_svag._words import join

DEFAULT_CLOSENESS = math.sqrt(2.0)
CONFIDENCE = 0.95
QUANTITIES = ("weight_norm", "gradient_noise", "gradient_signal")
NAMES = {
    "weight_norm": "squared weight norm R",
    "gradient_noise": "gradient noise N",
    "gradient_signal": "gradient signal G",
}

VALID, INVALID, INCONCLUSIVE = "valid", "invalid", "inconclusive"
TIGHT, PAPER = "tight", "paper"


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
    half = _t_quantile(confidence, degrees_of_freedom) * standard_error
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
    half = _t_quantile(confidence, dof) * error
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
    t = _t_quantile(confidence, count - 1)
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
        listed = join([f"{_name(q)} (ratio {ratios[q].mean:.3g})" for q in outside])
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
        causes.append(f"the {subject} of {join(wide)} {verb} too wide")
        remedies.append(f"More seeds or longer runs would narrow {them}.")
    if missing:
        where = "in some seed of SGD or of the SDE"
        causes.append(f"{join(missing)} came out negative or zero {where}")
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


def sde_threshold(closeness=DEFAULT_CLOSENESS):
    """Smallest noise-to-signal ratio N/G at which SGD can be C-close to its SDE.

    In equilibrium of a scale-invariant loss with weight decay, SGD has
    `(2 lambda - eta lambda^2) R = eta (G + N)` and its SDE `2 lambda R' = eta N'`. If R, N, G are
    within a factor C, then `(G' + N') / C <= G + N <= C N'` up to a term in `eta lambda`, hence
    `N'/G' >= 1 / (C^2 - 1)`; the same holds for the N and G of SGD.

    Args:
        closeness: C, a float > 1. Defaults to `sqrt(2)`.

    Returns:
        A float.

    Raises:
        ValueError: if `closeness` is not greater than 1.

    Example:

    >>> sde_threshold(2.0) == 1 / 3
    True
    """
    return 1.0 / (_square(validate_closeness(closeness)) - 1.0)


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition `N/G >= threshold` and what the interval of N/G says about it.

    Attributes:
        noise_to_signal: `Interval` of N/G.
        threshold: the smallest N/G allowed.
        holds: whether the condition holds; `None` where the interval contains the threshold.
    """

    noise_to_signal: Interval
    threshold: float
    holds: bool | None

    def to_json(self):
        """Returns a dict that JSON can hold."""
        return {**vars(self), "noise_to_signal": self.noise_to_signal.to_json()}


def sde_condition(noise, signal, closeness=DEFAULT_CLOSENESS, confidence=CONFIDENCE):
    """The condition of `sde_threshold` on measured N and G.

    It is necessary, not sufficient: where it does not hold, SGD is not C-close to its SDE; where
    it holds, nothing follows. Its derivation rests on equilibrium, a scale-invariant loss, weight
    decay and momentum 0; elsewhere it is a heuristic.

    Args:
        noise: N of SGD (or of its SDE) in equilibrium: one number per seed, or per batch of a long
            run (`RunningMeans.batches` of `keras_svag.statistics`).
        signal: G of the same runs.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: Float in (0, 1), of the two-sided interval of N/G (Fieller's, so without an
            upper end where that of G reaches zero); `holds` errs with half of what is left to 1.
            Defaults to `0.95`.

    Returns:
        A `Condition`.

    Raises:
        ValueError: if `closeness` is not greater than 1, or `noise` and `signal` are not of the
            same length.

    Example:

    >>> sde_condition([2.0, 2.2], [1.0, 1.1]).holds
    True
    """
    threshold = sde_threshold(closeness)
    ratio = _noise_to_signal(noise, signal, confidence)
    holds = None
    if ratio.ci_low >= threshold or ratio.ci_high < threshold:
        holds = bool(ratio.ci_low >= threshold)
    return Condition(ratio, threshold, holds)


def lsr_max_kappa(noise, signal, closeness=DEFAULT_CLOSENESS, form=TIGHT, confidence=CONFIDENCE):
    """Bound on the factor by which the linear scaling rule can go before training changes.

    In equilibrium of a scale-invariant loss with weight decay, `2 lambda R = eta (G + N)` at batch
    size B and `2 lambda R' = kappa eta (G' + N')` at kappa B, up to terms in `eta lambda` that only
    tighten what follows. If R, G and B N agree within a factor C (B N, since noise per time is what
    the rule keeps), then `kappa G + N <= C^2 (G + N)`, hence

    - `"tight"`: `kappa <= C^2 + (C^2 - 1) N/G`,
    - `"paper"`: `kappa <= C^2 (1 + N/G)`, the looser form of Li, Malladi, Arora 2021.

    The bound is one-sided: beyond it training changes, below it nothing follows. It rests on
    equilibrium, scale invariance, weight decay and momentum 0; elsewhere it is a heuristic.

    Args:
        noise: N of the base run (ell = 1) in equilibrium: one number per seed, or per batch of a
            long run (`RunningMeans.batches` of `keras_svag.statistics`).
        signal: G of the same runs; as logged, not corrected for sampling.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        form: `"tight"` or `"paper"`. Defaults to `"tight"`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the bound. Its upper end is infinite where the interval of G reaches
        zero: then no kappa is ruled out. Its lower end is never below `C^2`, since N/G is not
        negative.

    Raises:
        ValueError: if `closeness` is not greater than 1, `form` is not one of the two, or `noise`
            and `signal` are not of the same length.

    Example:

    >>> lsr_max_kappa([3.0, 3.0], [1.0, 1.0], closeness=2.0)
    Interval(mean=13.0, ci_low=13.0, ci_high=13.0)
    >>> lsr_max_kappa([3.0, 3.0], [1.0, 1.0], closeness=2.0, form="paper").mean
    16.0
    """
    square = _square(validate_closeness(closeness))
    slope = {TIGHT: square - 1, PAPER: square}[one_of("form", form, (TIGHT, PAPER))]
    ratio = _noise_to_signal(noise, signal, confidence)

    def bound(noise_to_signal):
        return square + slope * max(noise_to_signal, 0.0)

    return Interval(bound(ratio.mean), bound(ratio.ci_low), bound(ratio.ci_high))


def _noise_to_signal(noise, signal, confidence):
    noise, signal = np.atleast_1d(noise), np.atleast_1d(signal)
    if noise.shape != signal.shape or noise.ndim != 1 or not len(noise):
        raise ValueError(
            "`noise` and `signal` must be lists of the same length, one number per seed. Received: "
            f"noise of shape {noise.shape}, signal of shape {signal.shape}. Leave failed runs out "
            "of both."
        )
    return ratio_of_means(noise, signal, confidence)


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


def _square(number):
    return number * number  # `**` raises where this is infinite


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


def standard_error(values):
    """Standard error of the mean of an array of independent values."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _t_quantile(confidence, dof):
    return float(stats.t.ppf(0.5 + confidence / 2, dof))
