"""Criteria of verdicts: the limits within which a quantity must agree."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from keras_svag._checks import finite_float
from keras_svag.theory.statistics.contrasts import Comparison, Difference, Ratio, Samples
from keras_svag.theory.statistics.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Limits on the ratio, or on the difference, of a quantity to its reference.

    Attributes:
        low: the lowest ratio or difference that counts as agreement; 0 or -inf for none.
        high: the highest one; inf for none.
        kind: `"ratio"` or `"difference"`.
    """

    low: float
    high: float
    kind: str = "ratio"

    @classmethod
    def within_factor(cls, factor: float) -> "Criterion":
        """Ratios within a factor > 1 of each other."""
        factor = finite_float("ratio", factor, "a number > 1", 1.0, exclusive=True)
        return cls(1 / factor, factor)

    @classmethod
    def within_difference(cls, limit: float) -> "Criterion":
        """Differences of at most `limit` > 0, either way."""
        limit = finite_float("difference", limit, "a number > 0", 0.0, exclusive=True)
        return cls(-limit, limit, "difference")

    def compare(
        self, samples: Samples, first: Sequence[float], second: Sequence[float], slack: float = 0.0
    ) -> Comparison:
        """The comparison of two contrasts that this criterion is about."""
        return (Ratio if self.kind == "ratio" else Difference)(samples, first, second, slack)

    def agrees(self, comparisons: Iterable[Comparison], alpha: float) -> bool:
        """Returns True if all comparisons are shown to lie inside, by one-sided tests."""
        return all(
            c.is_above(self.low, alpha) and c.is_below(self.high, alpha) for c in comparisons
        )

    def differs(self, comparisons: Sequence[Comparison], alpha: float) -> bool:
        """Returns True if all comparisons are shown to lie outside, on the same side."""
        is_below = self._has_low and all(c.is_below(self.low, alpha) for c in comparisons)
        return is_below or all(c.is_above(self.high, alpha) for c in comparisons)

    def excludes(self, interval: Interval) -> bool:
        """Returns True if an interval of the ratio or difference lies outside."""
        return (self._has_low and interval.ci_high < self.low) or interval.ci_low > self.high

    @property
    def _has_low(self) -> bool:
        return self.low > (0.0 if self.kind == "ratio" else -math.inf)


def hull(comparisons: Sequence[Comparison], alpha: float) -> Interval:
    """Union of the intervals of all comparisons, with the estimate of the first."""
    intervals = [comparison.interval(alpha) for comparison in comparisons]
    low, high = min(i.ci_low for i in intervals), max(i.ci_high for i in intervals)
    return Interval(intervals[0].mean, low, high)
