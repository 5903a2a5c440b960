"""Necessary conditions on N/G: of the SDE as a model of SGD, and of the linear scaling rule.

Both are from Li, Malladi, Arora 2021 (arXiv 2102.12470), section 5; `docs/theory_conditions.md`
derives them.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import one_of
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_of_means
from keras_svag.theory.verdicts.decision import DEFAULT_CLOSENESS, validate_closeness

TIGHT, PAPER = "tight", "paper"


def sde_threshold(closeness: float = DEFAULT_CLOSENESS) -> float:
    """Smallest noise-to-signal ratio N/G at which SGD can be C-close to its SDE.

    In equilibrium of a scale-invariant loss with weight decay, N/G must be at least
    `1 / (C^2 - 1)`, for the N and G of SGD as for those of the SDE.

    Args:
        closeness: C, a float > 1. Defaults to `sqrt(2)`.

    Returns:
        A float.

    Raises:
        ValueError: If `closeness` is not greater than 1.

    Example:

    >>> sde_threshold(2.0) == 1 / 3
    True
    """
    return 1.0 / (_square(validate_closeness(closeness)) - 1.0)


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition `N/G >= threshold`, tested with the interval of N/G.

    Attributes:
        noise_to_signal: `Interval` of N/G.
        threshold: Smallest N/G allowed.
        holds: True, False, or `None` if the interval contains the threshold.
    """

    noise_to_signal: Interval
    threshold: float
    holds: bool | None

    def to_json(self) -> dict[str, object]:
        """Returns a JSON-serializable dict."""
        return {**vars(self), "noise_to_signal": self.noise_to_signal.to_json()}


def sde_condition(
    noise: ArrayLike,
    signal: ArrayLike,
    closeness: float = DEFAULT_CLOSENESS,
    confidence: float = CONFIDENCE,
) -> Condition:
    """Tests the condition of `sde_threshold` on measured N and G.

    It is necessary, not sufficient, and assumes equilibrium, a scale-invariant loss, weight decay
    and no momentum; otherwise it is a heuristic.

    Args:
        noise: N of SGD in equilibrium: one number per seed, or per `RunningMeans.batches`.
        signal: G of the same runs.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: Confidence of the two-sided interval of N/G, in (0, 1). Defaults to `0.95`.

    Returns:
        A `Condition`.

    Raises:
        ValueError: If an argument is out of range, or `noise` and `signal` differ in length.

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


def lsr_max_kappa(
    noise: ArrayLike,
    signal: ArrayLike,
    closeness: float = DEFAULT_CLOSENESS,
    form: str = TIGHT,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Largest factor on the batch size at which the linear scaling rule can hold.

    If R, G and B N (the noise per unit of time, which the rule keeps) agree within a factor C, then
    `kappa G + N <= C^2 (G + N)`. Beyond the bound training changes; below it nothing follows. It
    makes the assumptions of `sde_condition`. With momentum it is a guide, not a bound: training
    may stay the same beyond it. The bound on the batch size is strictest at a small base batch.

    Args:
        noise: N of the base run in equilibrium: one number per seed, or per `RunningMeans.batches`.
        signal: G of the same runs, as logged.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        form: `"tight"`, `C^2 + (C^2 - 1) N/G`, or `"paper"`, the looser `C^2 (1 + N/G)` of the
            paper. Defaults to `"tight"`.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the bound; infinite above if the interval of G reaches zero.

    Raises:
        ValueError: If an argument is out of range, or `noise` and `signal` differ in length.

    Example:

    >>> lsr_max_kappa([3.0, 3.0], [1.0, 1.0], closeness=2.0)
    Interval(mean=13.0, ci_low=13.0, ci_high=13.0)
    """
    square = _square(validate_closeness(closeness))
    slope = {TIGHT: square - 1, PAPER: square}[one_of("form", form, (TIGHT, PAPER))]
    ratio = _noise_to_signal(noise, signal, confidence)

    def bound(noise_to_signal: float) -> float:
        return square + slope * max(noise_to_signal, 0.0)

    return Interval(bound(ratio.mean), bound(ratio.ci_low), bound(ratio.ci_high))


def _noise_to_signal(noise: ArrayLike, signal: ArrayLike, confidence: float) -> Interval:
    noise, signal = np.atleast_1d(noise), np.atleast_1d(signal)
    if noise.shape != signal.shape or noise.ndim != 1 or not len(noise):
        raise ValueError(
            "`noise` and `signal` must be lists of the same length, one number per seed. Received: "
            f"noise of shape {noise.shape}, signal of shape {signal.shape}. Leave failed runs out "
            "of both."
        )
    return ratio_of_means(noise, signal, confidence)


def _square(number: float) -> float:
    return number * number  # `**` would raise an OverflowError
