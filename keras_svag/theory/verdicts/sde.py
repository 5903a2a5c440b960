"""The verdict on whether SGD is C-close to its SDE, from one number per run.

Two runs are C-close when squared weight norm R, gradient noise N and gradient signal G each agree
within a factor C (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5). SGD is judged against the
limit l -> infinity of SVAG(l); being close to SVAG(l) itself is weaker (for l <= C^2 it says
nothing).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from keras_svag._checks import english_list
from keras_svag.theory.outcomes import INCONCLUSIVE, INVALID, VALID
from keras_svag.theory.statistics.contrasts import Comparison
from keras_svag.theory.statistics.intervals import Interval
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.decision import DEFAULT_CLOSENESS, all_criteria, decide
from keras_svag.theory.verdicts.limit import (
    NUM_ELLS,
    Extrapolation,
    comparisons_with_limit,
    extrapolations,
)
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.runs import split_runs

# The remedies that are likely to settle an inconclusive verdict.
MORE_SEEDS, LARGER_ELL = "seeds", "ell"


@dataclasses.dataclass(frozen=True)
class SDEVerdict:
    """Verdict on whether SGD is well modeled by its SDE.

    Attributes:
        verdict: `"valid"`, `"invalid"` or `"inconclusive"`.
        reason: what follows "SGD" in a sentence.
        measured_closeness: `Interval` of the largest factor by which a quantity differs.
        ratios: dict from quantity to the `Interval` of SGD over the limit, as it was tested.
        extrapolations: dict from quantity to a list of `Extrapolation`, in order of ell.
        finished: dict from ell to the number of runs that finished.
        failed: dict from ell to the number of runs that failed.
        remedy: `"seeds"` or `"ell"` (one more, twice as large) where that is likely to settle an
            inconclusive verdict, else `None`.
    """

    verdict: str
    reason: str
    measured_closeness: Interval
    ratios: dict[str, Interval]
    extrapolations: dict[str, list[Extrapolation]]
    finished: dict[float, int]
    failed: dict[float, int]
    remedy: str | None = None


def judge_sde(
    values: Mapping[str, Mapping[float, Sequence[float]]],
    closeness: float = DEFAULT_CLOSENESS,
    confidence: float = 0.95,
    look: int = 1,
    criteria: Mapping[str, Criterion] | None = None,
) -> SDEVerdict:
    """Judges whether SGD is C-close to its SDE.

    SGD's means are compared with the limit of SVAG by one-sided tests on the contrasts
    `Q_1 - C Q_inf` and `Q_1 - Q_inf/C`, at the level `(1 - confidence) 2^-look`. The limit is
    extrapolated from the three largest ells, with allowance for errors of other orders and for
    disagreement between the extrapolations. "valid": every quantity is
    shown to lie inside `[1/C, C]`, and no run failed. "invalid": some quantity is shown to lie
    outside, Bonferroni-corrected, or every SGD run failed and no SVAG run did. Else "inconclusive".
    Derivation and error rates: docs/theory_verdicts.md.

    Args:
        values: dict from quantity, such as `"weight_norm"`, to a dict from ell to one number per
            seed, NaN for a run that failed. An ell of 1 is SGD itself.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: of all looks together, in (0, 1). Defaults to `0.95`.
        look: 1 for the first look at the data, 2 after seeds or ells were added, and so on.
            Defaults to `1`.
        criteria: dict from quantity to the `Criterion` that takes the place of `closeness` for it.
            Defaults to `None`.

    Returns:
        An `SDEVerdict`.

    Raises:
        ValueError: if an argument is out of range, or quantities differ in their runs.

    Example:

    >>> runs = {ell: [1 + 0.1 / ell, 1.02 + 0.1 / ell, 0.98 + 0.1 / ell] for ell in (1, 2, 4, 8)}
    >>> judge_sde({"weight_norm": runs}).verdict
    'valid'
    """
    alpha = spent_at(look, confidence)
    limits = all_criteria(values, closeness, criteria)
    runs, finished, failed = split_runs(values)
    amplified = [ell for ell in finished if ell > 1]
    usable = [ell for ell in amplified if finished[ell] > 1]
    found = SDEVerdict(
        INCONCLUSIVE,
        "",
        Interval(math.nan, 1.0, math.inf),
        {},
        {q: extrapolations(of_ell, usable, alpha) for q, of_ell in runs.items()},
        finished,
        failed,
    )
    only_sgd_failed = failed.get(1.0, 0) == sum(failed.values()) > 1
    if usable and only_sgd_failed and not finished[1.0]:
        reason = "diverged in every run, and SVAG in none."
        return dataclasses.replace(found, verdict=INVALID, reason=reason)
    if len(amplified) < NUM_ELLS:
        reason = (
            f"cannot be judged: extrapolating to the SDE, and checking that, takes {NUM_ELLS} ells "
            f"above 1, and there are {len(amplified)}."
        )
        return dataclasses.replace(found, reason=reason, remedy=LARGER_ELL)
    if finished.get(1.0, 0) < 2 or usable[-NUM_ELLS:] != amplified[-NUM_ELLS:]:
        reason = f"cannot be judged: fewer than two runs finished at some ell{_failures(failed)}."
        remedy = None if any(failed.values()) else MORE_SEEDS
        return dataclasses.replace(found, reason=reason, remedy=remedy)
    comparisons = {
        q: comparisons_with_limit(of_ell, usable, limits[q]) for q, of_ell in runs.items()
    }
    return _decide(found, comparisons, limits, alpha)


def _decide(
    found: SDEVerdict,
    comparisons: Mapping[str, Sequence[Comparison]],
    criteria: Mapping[str, Criterion],
    alpha: float,
) -> SDEVerdict:
    decision = decide(comparisons, criteria, alpha)
    found = dataclasses.replace(
        found, ratios=decision.intervals, measured_closeness=decision.measured_closeness
    )
    if decision.outside:
        reason = f"differs from the SDE in {decision.describe(decision.outside)}."
        return dataclasses.replace(found, verdict=INVALID, reason=reason)
    if any(found.failed.values()):
        reason = f"cannot be called valid: some runs failed{_failures(found.failed)}."
        return dataclasses.replace(found, reason=reason)
    if not decision.undecided:
        reason = f"agrees with the SDE in {decision.describe(comparisons)}."
        return dataclasses.replace(found, verdict=VALID, reason=reason)
    # An ell more, where nothing but the uncertainty of the limit stands in the way.
    estimates = {q: [dataclasses.replace(comparisons[q][0], slack=0.0)] for q in comparisons}
    known_limit = decide(estimates, criteria, alpha)
    settled = known_limit.outside or not known_limit.undecided
    remedy, needed = (
        (LARGER_ELL, "The limit is too uncertain: a larger ell would narrow it.")
        if settled
        else (MORE_SEEDS, "More seeds or longer runs would narrow this.")
    )
    reason = (
        "was neither shown to agree with the SDE nor to differ from it in "
        f"{decision.describe(decision.undecided)}. {needed}"
    )
    return dataclasses.replace(found, reason=reason, remedy=remedy)


def _failures(failed: Mapping[float, int]) -> str:
    """Lists in parentheses the numbers of failed runs by ell."""
    listed = [f"{count} at ell = {ell:g}" for ell, count in failed.items() if count]
    return f" ({english_list(listed)} failed)" if listed else ""
