"""The verdict on whether two kinds of gradient noise train alike, from one number per run."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_svag._checks import finite_float
from keras_svag.theory.outcomes import DIFFERENT, EQUIVALENT, INCONCLUSIVE
from keras_svag.theory.statistics.contrasts import PairedSamples
from keras_svag.theory.statistics.intervals import Interval
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.decision import all_criteria, decide
from keras_svag.theory.verdicts.looks import spent_at


@dataclasses.dataclass(frozen=True)
class NoiseVerdict:
    """Verdict on whether two methods train alike.

    Attributes:
        verdict: `"equivalent"`, `"different"` or `"inconclusive"`.
        ratios: dict from quantity to the `Interval` of the first method over the second, as it was
            tested.
        outcomes: dict from quantity to its own outcome, the same words. With a failed run none is
            `"equivalent"`.
        limits: tuple, the smallest and the largest ratio that counts as equivalent.
        num_pairs: number of seeds with which both methods finished.
        failed: number of seeds with which one of them failed.
    """

    verdict: str
    ratios: dict[str, Interval]
    outcomes: dict[str, str]
    limits: tuple[float, float]
    num_pairs: int
    failed: int


def judge_noisy_gradient_descent(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    margin: float,
    confidence: float = 0.95,
    look: int = 1,
    criteria: Mapping[str, Criterion] | None = None,
) -> NoiseVerdict:
    """Judges whether two methods, run with the same seeds, lead to the same means.

    By one-sided tests on the seed-by-seed contrasts `Q_1 - (1 + margin) Q_2` and
    `Q_1 - Q_2/(1 + margin)`, at the level `(1 - confidence) 2^-look`. The limits are symmetric in
    the two methods. "equivalent": every quantity is shown to lie inside, and no run
    failed. "different": some quantity, corrected for their number, is shown to lie outside.

    Args:
        first: dict from quantity to one number per seed, NaN for a run that failed.
        second: the same of the other method, in the same order of seeds.
        margin: a ratio counts as equivalent between `1/(1 + margin)` and `1 + margin`; > 0.
        confidence: of all looks together, in (0, 1). Defaults to `0.95`.
        look: 1 for the first look at the data, 2 after seeds were added, and so on. Defaults to
            `1`.
        criteria: dict from quantity to the `Criterion` that takes the place of `margin` for it.
            Defaults to `None`.

    Returns:
        A `NoiseVerdict`.

    Raises:
        ValueError: if an argument is out of range, or the quantities or seeds are not the same.

    Example:

    >>> sgd, ngd = {"loss": [1.0, 1.2, 0.8]}, {"loss": [1.01, 1.2, 0.81]}
    >>> judge_noisy_gradient_descent(sgd, ngd, margin=0.1).verdict
    'equivalent'
    """
    margin = finite_float("margin", margin, "a number > 0", 0.0, exclusive=True)
    alpha = spent_at(look, confidence)
    sizes = {len(values) for method in (first, second) for values in method.values()}
    if not first or set(first) != set(second) or len(sizes) > 1:
        raise ValueError(
            "`first` and `second` must have the same quantities and as many seeds. Received: "
            f"first with {sorted(first)}, second with {sorted(second)}"
        )
    table = {q: np.array([first[q], second[q]], float) for q in first}
    criteria = all_criteria(table, 1 + margin, criteria)
    is_done = np.all([np.isfinite(pair) for pair in table.values()], axis=(0, 1))
    num_pairs, failed = int(is_done.sum()), int((~is_done).sum())
    limits = (1 / (1 + margin), 1 + margin)
    if num_pairs < 2:
        return NoiseVerdict(INCONCLUSIVE, {}, {}, limits, num_pairs, failed)
    comparisons = {
        q: [criteria[q].compare(PairedSamples(list(pair[:, is_done])), (1.0, 0.0), (0.0, 1.0))]
        for q, pair in table.items()
    }
    decision = decide(comparisons, criteria, alpha)
    # The seeds that finished in both methods may be those that are alike.
    outcomes = {q: decision.outcome(EQUIVALENT, DIFFERENT, failed, [q]) for q in table}
    verdict = decision.outcome(EQUIVALENT, DIFFERENT, failed)
    return NoiseVerdict(verdict, decision.intervals, outcomes, limits, num_pairs, failed)
