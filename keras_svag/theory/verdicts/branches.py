"""The verdict on branches of a run at larger batch sizes, and the critical factor they show.

A branch goes on from a checkpoint at another batch size, and its loss is compared with that of the
branch at the batch size of the run (Merrill et al. 2025, arXiv 2505.23971). Branches of a seed
share their past, so the comparison is paired seed by seed.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE
from keras_svag.theory.statistics.contrasts import PairedSamples
from keras_svag.theory.statistics.intervals import Interval, exponential, mean_interval
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.decision import decide
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.scaling import ScalingVerdict

LOSS = "smoothed_loss"


def judge_branch(
    base: Sequence[float],
    other: Sequence[float],
    tolerance: float,
    confidence: float = 0.95,
    look: int = 1,
) -> ScalingVerdict:
    """Judges whether the loss of branches is at most `1 + tolerance` times that of base branches.

    By one-sided t tests on `other - (1 + tolerance) base` of each seed, at the level
    `(1 - confidence) 2^-look`. "holds": shown to be below zero, and no run failed. "fails": shown
    to be above zero, or every other branch failed and no base branch. Else "inconclusive". A lower
    loss is no failure.

    Args:
        base: The loss of the base branch of each seed, NaN for a run that failed.
        other: The same at another batch size, of the same seeds.
        tolerance: Largest relative excess of the loss, a float > 0.
        confidence: Of all looks together, in (0, 1). Defaults to `0.95`.
        look: 1 for the first look at the data, 2 after seeds were added. Defaults to `1`.

    Returns:
        A `ScalingVerdict`.

    Example:

    >>> judge_branch([1.0, 1.1, 0.9], [1.5, 1.6, 1.4], tolerance=0.05).verdict
    'fails'
    """
    alpha = spent_at(look, confidence)
    pairs = np.array([base, other], float).reshape(2, -1)
    is_done = np.isfinite(pairs)
    finished = int(is_done[0].sum()), int(is_done[1].sum())
    failed = is_done.shape[1] - finished[0], is_done.shape[1] - finished[1]
    if failed[1] > 1 and not finished[1] and not failed[0]:
        return ScalingVerdict(FAILS, "every run diverged.", {}, finished, failed)
    pairs = pairs[:, is_done.all(axis=0)]
    if (pairs[0] <= 0).any():
        reason = "a loss at factor 1 is not positive, so a relative tolerance says nothing."
        return ScalingVerdict(INCONCLUSIVE, reason, {}, finished, failed)
    if pairs.shape[1] < 2:
        reason = "fewer than two seeds finished both branches, so there are no intervals."
        return ScalingVerdict(INCONCLUSIVE, reason, {}, finished, failed)
    limits = {LOSS: Criterion(0.0, 1.0 + tolerance)}
    comparison = limits[LOSS].compare(PairedSamples(pairs), (0.0, 1.0), (1.0, 0.0))
    decision = decide({LOSS: [comparison]}, limits, alpha)
    reason = f"{decision.describe([LOSS])}."
    if any(failed):
        reason = f"{sum(failed)} of {is_done.size} runs failed; of the others, {reason}"
    verdict = decision.outcome(HOLDS, FAILS, sum(failed))
    return ScalingVerdict(verdict, reason, decision.intervals, finished, failed)


def critical_factor(losses: Mapping[float, Sequence[float]], tolerance: float) -> Interval:
    """Largest factor on the batch size whose branch has a loss within the tolerance.

    For each seed the largest factor at which it is, and from there to the next one by interpolation
    of log loss against log factor; then the geometric mean over seeds with its t interval. Where
    the loss of a seed is within the tolerance at the largest factor that was tried, its critical
    factor is at least that one, and the interval has no upper end.

    Args:
        losses: Dict from factor to the loss of each seed, NaN for a run that failed; with 1, the
            base. The same seeds everywhere.
        tolerance: Largest relative excess of the loss, a float > 0.

    Returns:
        An `Interval`; NaN without bounds if there is no seed, or a loss of the base is not > 0.

    Example:

    >>> print(critical_factor({1: [1.0, 1.0], 4: [1.0, 1.0], 16: [1.21, 1.21]}, tolerance=0.1))
    8 [8, 8]
    """
    factors = sorted(factor for factor in losses if factor >= 1)
    base = np.asarray(losses[1], float)
    if (base <= 0).any():
        return Interval(math.nan, -math.inf, math.inf)
    # A branch that failed lost everything.
    excess = np.array([np.asarray(losses[factor], float) / base for factor in factors])
    excess = np.where(np.isnan(excess), np.inf, excess)[:, np.isfinite(base)]
    found = [_crossing(factors, seed, 1.0 + tolerance) for seed in excess.T]
    interval = exponential(mean_interval([math.log(factor) for factor, _ in found]))
    if any(is_open for _, is_open in found):
        return Interval(interval.mean, interval.ci_low, math.inf)
    return interval


def _crossing(factors: Sequence[float], ratios: np.ndarray, limit: float) -> tuple[float, bool]:
    """Returns where the loss of one seed leaves the limit for good, and whether it never does."""
    last = int(np.flatnonzero(ratios <= limit)[-1])
    if last == len(factors) - 1:
        return factors[-1], True
    low, high = ratios[last], ratios[last + 1]
    if not (0 < low and math.isfinite(high)):
        return factors[last], False
    share = math.log(limit / low) / math.log(high / low)
    return factors[last] * (factors[last + 1] / factors[last]) ** share, False
