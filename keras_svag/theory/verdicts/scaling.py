"""The verdict on the linear scaling rule at one batch size, from one number per run."""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE
from keras_svag.theory.statistics.contrasts import IndependentSamples
from keras_svag.theory.statistics.intervals import Interval
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.decision import DEFAULT_CLOSENESS, all_criteria, decide
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.runs import split_runs

BASE, OTHER = 1.0, 2.0


@dataclasses.dataclass(frozen=True)
class ScalingVerdict:
    """Verdict on whether training at another batch size is what it is at the base.

    Attributes:
        verdict: `"holds"`, `"fails"` or `"inconclusive"`.
        reason: a sentence without subject.
        ratios: dict from quantity to the `Interval` of the other batch size over the base, as it
            was tested; a difference where the criterion is one.
        finished: tuple of the numbers of runs that finished, at the base and at the other.
        failed: tuple of the numbers of runs that failed.
    """

    verdict: str
    reason: str
    ratios: dict[str, Interval]
    finished: tuple[int, int]
    failed: tuple[int, int]


def judge_scaling(
    base: Mapping[str, Sequence[float]],
    other: Mapping[str, Sequence[float]],
    closeness: float = DEFAULT_CLOSENESS,
    confidence: float = 0.95,
    look: int = 1,
    criteria: Mapping[str, Criterion] | None = None,
) -> ScalingVerdict:
    """Judges whether training at another batch size is C-close to that at the base batch size.

    By one-sided tests on the contrasts `Q' - C Q` and `Q' - Q/C` of the means, at the level
    `(1 - confidence) 2^-look`. "holds": every quantity is shown to lie inside `[1/C, C]`, and no
    run failed. "fails": some quantity is shown to lie outside, Bonferroni-corrected, or every run
    at the other batch size failed and none at the base. Else "inconclusive".

    Args:
        base: dict from quantity to one number per seed, NaN for a run that failed. For the
            gradient noise N pass B N, which the rule preserves.
        other: the same of the other batch size.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: of all looks together, in (0, 1). Defaults to `0.95`.
        look: 1 for the first look at the data, 2 after seeds were added, and so on. Defaults to
            `1`.
        criteria: dict from quantity to the `Criterion` that takes the place of `closeness` for it.
            Defaults to `None`.

    Returns:
        A `ScalingVerdict`.

    Raises:
        ValueError: if an argument is out of range, or the quantities are not the same.

    Example:

    >>> base = {"weight_norm": [1.0, 1.02, 0.98]}
    >>> judge_scaling(base, {"weight_norm": [2.0, 2.02, 1.98]}).verdict
    'fails'
    """
    if not base or set(base) != set(other):
        raise ValueError(
            "`base` and `other` must be dicts with the same quantities. Received: base with "
            f"{sorted(base)}, other with {sorted(other)}"
        )
    alpha = spent_at(look, confidence)
    limits = all_criteria(base, closeness, criteria)
    runs, finished, failed = split_runs({q: {BASE: base[q], OTHER: other[q]} for q in base})
    counts = (finished[BASE], finished[OTHER]), (failed[BASE], failed[OTHER])
    if failed[OTHER] > 1 and not finished[OTHER] and finished[BASE] and not failed[BASE]:
        return ScalingVerdict(FAILS, "every run diverged.", {}, *counts)
    if min(finished.values()) < 2:
        reason = "fewer than two runs finished here or at the base, so there are no intervals."
        return ScalingVerdict(INCONCLUSIVE, reason, {}, *counts)
    comparisons = {
        q: [limits[q].compare(IndependentSamples([of[BASE], of[OTHER]]), (0.0, 1.0), (1.0, 0.0))]
        for q, of in runs.items()
    }
    decision = decide(comparisons, limits, alpha)
    reason = f"{decision.describe(comparisons)}."
    num_failed = sum(failed.values())
    if num_failed:
        total = num_failed + sum(finished.values())
        reason = f"{num_failed} of {total} runs failed; of the others, {reason}"
    verdict = decision.outcome(HOLDS, FAILS, num_failed)
    return ScalingVerdict(verdict, reason, decision.intervals, *counts)
