"""Combines the comparisons of several quantities into one decision, and describes it."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from keras_svag._checks import english_list, finite_float
from keras_svag.theory.outcomes import INCONCLUSIVE
from keras_svag.theory.quantities import DISPLAY_NAMES
from keras_svag.theory.statistics.contrasts import Comparison
from keras_svag.theory.statistics.intervals import Interval
from keras_svag.theory.verdicts.criteria import Criterion, hull

DEFAULT_CLOSENESS = math.sqrt(2.0)


@dataclasses.dataclass(frozen=True)
class Decision:
    """Outcome of the tests of all quantities, at one level of error."""

    intervals: dict[str, Interval]
    criteria: dict[str, Criterion]
    outside: list[str]
    undecided: list[str]
    measured_closeness: Interval

    def outcome(
        self, agrees: str, differs: str, failed: int, quantities: Iterable[str] | None = None
    ) -> str:
        """The word for some quantities, or all; with a failed run it is never `agrees`."""
        tested = set(self.intervals if quantities is None else quantities)
        if tested & set(self.outside):
            return differs
        return INCONCLUSIVE if failed or tested & set(self.undecided) else agrees

    def describe(self, quantities: Iterable[str]) -> str:
        """The quantities with what was measured, as a sentence lists them."""
        return english_list(
            [f"{name_of(q)} ({self.criteria[q].kind} {self.intervals[q]})" for q in quantities]
        )


def decide(
    comparisons: Mapping[str, Sequence[Comparison]],
    criteria: Mapping[str, Criterion],
    alpha: float,
) -> Decision:
    """Agreement by one-sided tests at `alpha` each; difference Bonferroni-corrected."""
    strict = alpha / len(comparisons)
    intervals = {q: hull(found, alpha) for q, found in comparisons.items()}
    # Without a clearly positive denominator the ratios that a test excludes lie between others that
    # it does not, and the interval is wider than what the test shows.
    outside = [
        q
        for q, found in comparisons.items()
        if criteria[q].differs(found, strict) and criteria[q].excludes(intervals[q])
    ]
    undecided = [q for q, found in comparisons.items() if not criteria[q].agrees(found, alpha)]
    ratios = [q for q in comparisons if criteria[q].kind == "ratio"]
    # Any of the lower ends can err, hence Bonferroni.
    strict_ends = [hull(comparisons[q], strict) for q in ratios]
    measured = dataclasses.replace(
        largest_factor([intervals[q] for q in ratios]),
        ci_low=largest_factor(strict_ends).ci_low,
    )
    return Decision(intervals, dict(criteria), outside, undecided, measured)


def all_criteria(
    quantities: Iterable[str], closeness: float, criteria: Mapping[str, Criterion] | None
) -> dict[str, Criterion]:
    """The criterion of each quantity: within a factor `closeness` unless another is given."""
    default = Criterion.within_factor(validate_closeness(closeness))
    found = dict.fromkeys(quantities, default)
    unknown = [name for name in criteria or {} if name not in found]
    if unknown:
        raise ValueError(
            f"`criteria` must be about the given quantities, {english_list(list(found))}. "
            f"Received: criteria for {english_list(unknown)}"
        )
    return found | dict(criteria or {})


def validate_closeness(closeness: float) -> float:
    """Returns `closeness` as a float, or raises a `ValueError` that says what is wrong with it."""
    return finite_float("closeness", closeness, "a number > 1", minimum=1.0, exclusive=True)


def name_of(quantity: str) -> str:
    """The symbol of a quantity, or its name without underscores."""
    return DISPLAY_NAMES.get(quantity, quantity.replace("_", " "))


def largest_factor(ratios: Sequence[Interval]) -> Interval:
    """The largest of several ratios as a factor >= 1, whichever side of 1 they lie on."""
    if not ratios:
        return Interval(math.nan, 1.0, math.inf)
    factors = [_factor(ratio) for ratio in ratios]
    return Interval(
        max(f.mean for f in factors),
        max(f.ci_low for f in factors),
        max(f.ci_high for f in factors),
    )


def _factor(ratio: Interval) -> Interval:
    if math.isnan(ratio.mean):
        return Interval(math.inf, 1.0, math.inf)
    mean, low, high = dataclasses.astuple(ratio)
    lowest = 1.0 if low <= 1 <= high else max(low, _inverse(high))
    return Interval(max(mean, _inverse(mean)), lowest, max(high, _inverse(low)))


def _inverse(number: float) -> float:
    return 1 / number if number > 0 else math.inf
