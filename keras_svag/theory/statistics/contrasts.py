"""Comparisons of linear contrasts of means over seeds: Fieller's ratios with Welch's variances.

A contrast is `sum_i c_i mean_i` over groups of seeds, such as the extrapolation `2 Q(2l) - Q(l)`.
Whether a ratio A/B of two contrasts is below rho is tested on `A - rho B < 0`, which needs neither
logarithms nor positive values (docs/theory_verdicts.md, section 1).
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from keras_svag.theory.statistics.intervals import Interval, t_limit

# Ends of intervals of ratios are looked for within 4^SPAN times the estimate.
SPAN = 24

Coefficients = Sequence[float] | np.ndarray


class Samples:
    """Samples over seeds, of whose means contrasts are taken."""

    def contrast(self, coefficients: Coefficients) -> tuple[float, float, float]:
        """Estimate, standard error and degrees of freedom of a contrast."""
        raise NotImplementedError

    def upper(self, coefficients: Coefficients, alpha: float) -> float:
        """One-sided upper confidence limit of a contrast, at level `1 - alpha`."""
        estimate, error, dof = self.contrast(coefficients)
        return estimate + t_limit(alpha, dof) * error

    def lower(self, coefficients: Coefficients, alpha: float) -> float:
        """One-sided lower confidence limit of a contrast, at level `1 - alpha`."""
        estimate, error, dof = self.contrast(coefficients)
        return estimate - t_limit(alpha, dof) * error

    def interval(self, coefficients: Coefficients, alpha: float) -> Interval:
        """Interval of a contrast; each end errs with probability `alpha`."""
        return Interval(
            self.contrast(coefficients)[0],
            self.lower(coefficients, alpha),
            self.upper(coefficients, alpha),
        )


class IndependentSamples(Samples):
    """Samples of different runs: Welch's variance and Satterthwaite's degrees of freedom."""

    def __init__(self, samples: Sequence[Coefficients]):
        arrays = [np.asarray(sample, float) for sample in samples]
        self._means = [float(a.mean()) for a in arrays]
        self._variances = [float(a.var(ddof=1)) / len(a) for a in arrays]
        self._freedoms = [len(a) - 1 for a in arrays]

    def contrast(self, coefficients: Coefficients) -> tuple[float, float, float]:
        """Estimate, standard error and degrees of freedom of a contrast."""
        estimate = float(sum(c * mean for c, mean in zip(coefficients, self._means, strict=True)))
        parts = [float(c * c * v) for c, v in zip(coefficients, self._variances, strict=True)]
        variance = sum(parts)
        if not variance > 0:
            return estimate, math.sqrt(variance), math.inf
        # As shares of the whole: squares of variances might underflow.
        dof = 1 / sum((p / variance) ** 2 / d for p, d in zip(parts, self._freedoms, strict=True))
        return estimate, math.sqrt(variance), dof


class PairedSamples(Samples):
    """Samples that are paired seed by seed: the t statistic of the contrast of each seed."""

    def __init__(self, samples: Sequence[Coefficients] | np.ndarray):
        self._columns = np.asarray(samples, float)

    def contrast(self, coefficients: Coefficients) -> tuple[float, float, float]:
        """Estimate, standard error and degrees of freedom of a contrast."""
        values = np.asarray(coefficients, float) @ self._columns
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        return float(values.mean()), error, len(values) - 1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Contrast A against contrast B of the same samples, where B may be off by up to `slack`."""

    samples: Samples
    first: Coefficients
    second: Coefficients
    slack: float = 0.0

    def value(self) -> float:
        """The estimate."""
        raise NotImplementedError

    def is_below(self, limit: float, alpha: float) -> bool:
        """Returns True if A compared with B is shown to be below a limit, at level `1 - alpha`."""
        raise NotImplementedError

    def is_above(self, limit: float, alpha: float) -> bool:
        """Returns True if A compared with B is shown to be above a limit, at level `1 - alpha`."""
        raise NotImplementedError

    def interval(self, alpha: float) -> Interval:
        """The limits that neither one-sided test excludes."""
        raise NotImplementedError

    def _upper(self, factor: float, alpha: float) -> float:
        """Upper limit of A - factor B."""
        return self.samples.upper(self._contrast(factor), alpha) + factor * self.slack

    def _lower(self, factor: float, alpha: float) -> float:
        """Lower limit of A - factor B."""
        return self.samples.lower(self._contrast(factor), alpha) - factor * self.slack

    def _contrast(self, factor: float) -> list[float]:
        return [a - factor * b for a, b in zip(self.first, self.second, strict=True)]


class Ratio(Comparison):
    """The ratio A/B, of which limits are >= 0."""

    def value(self) -> float:
        """The ratio of the estimates; NaN unless that of B is positive."""
        top, bottom = (self.samples.contrast(c)[0] for c in (self.first, self.second))
        return top / bottom if bottom > 0 else math.nan

    def is_below(self, limit: float, alpha: float) -> bool:
        """Returns True if the ratio is shown to be below a limit, at level `1 - alpha`."""
        return math.isinf(limit) or self._upper(limit, alpha) < 0

    def is_above(self, limit: float, alpha: float) -> bool:
        """Returns True if the ratio is shown to be above a limit, at level `1 - alpha`."""
        return limit == 0 or self._lower(limit, alpha) > 0

    def interval(self, alpha: float) -> Interval:
        """The ratios that neither one-sided test excludes."""
        # With rho -> infinity the sign of A - rho B is that of -B: without a clearly positive
        # denominator there is no upper end.
        is_bounded = self.samples.lower(self.second, alpha) > self.slack
        value, high = self.value(), math.inf
        if is_bounded:
            high = _crossing(lambda limit: self._upper(limit, alpha), value, last=True)
        return Interval(value, _crossing(lambda limit: self._lower(limit, alpha), value), high)


class Difference(Comparison):
    """The difference A - B."""

    def value(self) -> float:
        """The difference of the estimates."""
        return self.samples.contrast(self._contrast(1.0))[0]

    def is_below(self, limit: float, alpha: float) -> bool:
        """Returns True if the difference is shown to be below a limit, at level `1 - alpha`."""
        return self._upper(1.0, alpha) < limit

    def is_above(self, limit: float, alpha: float) -> bool:
        """Returns True if the difference is shown to be above a limit, at level `1 - alpha`."""
        return self._lower(1.0, alpha) > limit

    def interval(self, alpha: float) -> Interval:
        """The differences that neither one-sided test excludes."""
        return Interval(self.value(), self._lower(1.0, alpha), self._upper(1.0, alpha))


def _crossing(excess: Callable[[float], float], scale: float, last: bool = False) -> float:
    """First or last limit at which a function of limits, positive at 0, becomes negative."""
    # With few seeds there may be several: degrees of freedom depend on the limit.
    if not excess(0.0) > 0:
        return 0.0
    center = abs(scale) if math.isfinite(scale) and scale else 1.0
    limits = [0.0, *(center * 4.0**i for i in range(-SPAN, SPAN + 1))]
    signs = [True, *(excess(limit) > 0 for limit in limits[1:])]
    steps = [i for i, pair in enumerate(itertools.pairwise(signs)) if pair == (True, False)]
    if not steps or (last and signs[-1]):
        return math.inf
    start = steps[-1 if last else 0]
    ends = limits[start], limits[start + 1]
    return float(optimize.brentq(excess, *ends, xtol=sys.float_info.min, rtol=1e-10))
