"""The limit of SVAG for l -> infinity, and how far the extrapolation to it can be off."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_svag.theory.statistics.contrasts import Comparison, IndependentSamples
from keras_svag.theory.statistics.intervals import Interval
from keras_svag.theory.verdicts.criteria import Criterion

NUM_ELLS = 3  # above 1: two extrapolations, of which the second checks the first
# Orders in 1/l that the error of SVAG may have. Theorem 4.3 has 1, for l large enough.
_ORDERS = np.linspace(0.5, 2.0, 31)


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The limit l -> infinity of a quantity, from SVAG at two amplifications.

    Attributes:
        ells: the two amplifications.
        limit: `Interval` of `(l_b Q_b - l_a Q_a) / (l_b - l_a)`.
        disagreement: difference from the limit of the pair of ells before, relative to `limit`;
            NaN for the first pair.
    """

    ells: tuple[float, float]
    limit: Interval
    disagreement: float


def extrapolate(ell_a: float, values_a: ArrayLike, ell_b: float, values_b: ArrayLike) -> np.ndarray:
    """Limit l -> infinity of a quantity known at two l, for an error of order 1/l.

    `Q_inf = (l_b Q_b - l_a Q_a) / (l_b - l_a)`, which is `2 Q(2 l) - Q(l)` for `l_b = 2 l_a`.

    Args:
        ell_a: The smaller amplification.
        values_a: The quantity at `ell_a`, an array of any shape.
        ell_b: The larger amplification.
        values_b: The quantity at `ell_b`, an array of the same shape.

    Returns:
        An array of the same shape.

    Example:

    >>> extrapolate(4, [1.25], 8, [1.125])  # 1 + 1/l
    array([1.])
    """
    weight_a, weight_b = _weights(ell_a, ell_b)
    return weight_a * np.asarray(values_a, float) + weight_b * np.asarray(values_b, float)


def extrapolations(
    samples: Mapping[float, np.ndarray], ells: Sequence[float], alpha: float
) -> list[Extrapolation]:
    """Extrapolates from each pair of consecutive ells; ends of intervals err with `alpha`."""
    found: list[Extrapolation] = []
    for pair in itertools.pairwise(ells):
        both = IndependentSamples([samples[ell] for ell in pair])
        limit = both.interval(_weights(*pair), alpha)
        change = limit.mean - found[-1].limit.mean if found else math.nan
        relative = change / abs(limit.mean) if limit.mean else math.nan
        found.append(Extrapolation(pair, limit, relative))
    return found


def estimate_limit(
    samples: Mapping[float, np.ndarray], ells: Sequence[float], alpha: float
) -> Interval:
    """The mean of the last two extrapolations, from three ells; ends err with `alpha`."""
    ells = tuple(ells[-NUM_ELLS:])
    before, after = _last_two(ells)
    return IndependentSamples([samples[ell] for ell in ells]).interval((before + after) / 2, alpha)


def comparisons_with_limit(
    samples: Mapping[float, np.ndarray], ells: Sequence[float], criterion: Criterion
) -> list[Comparison]:
    """Compares SGD with the estimated limit, then with extremes; a claim must hold for all."""
    # The estimate is the mean M of the last two extrapolations: for ells that double, the
    # intercept of the least-squares line in 1/l. The limit may differ from M by a known share of
    # SGD's distance from M (for errors of orders 1/2 to 2), and by 3/2 of the disagreement
    # of the extrapolations beyond one standard error (docs/theory_verdicts.md).
    ells = tuple(ells[-NUM_ELLS:])
    groups = IndependentSamples([samples[ell] for ell in (1.0, *ells)])
    sgd = np.array([1.0, 0.0, 0.0, 0.0])
    before, after = (np.array([0.0, *row]) for row in _last_two(ells))
    middle = (before + after) / 2
    difference, error, _ = groups.contrast(after - before)
    slack = 1.5 * max(0.0, abs(difference) - error)
    limits = [(1 + share) * middle - share * sgd for share in _shares_left(ells)]
    return [
        criterion.compare(groups, sgd.tolist(), middle.tolist(), slack),
        *(criterion.compare(groups, sgd.tolist(), limit.tolist()) for limit in limits),
    ]


def _weights(small: float, large: float) -> tuple[float, float]:
    """Coefficients of two ells in their extrapolation, exact for an error of order 1/l."""
    return -small / (large - small), large / (large - small)


def _last_two(ells: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of three ells in the extrapolations of the first and of the last two."""
    first, second, third = ells
    return np.array([*_weights(first, second), 0.0]), np.array([0.0, *_weights(second, third)])


@functools.lru_cache
def _shares_left(ells: tuple[float, ...]) -> tuple[float, float]:
    """Smallest and largest `(M - limit) / (SGD - M)` over the orders of the error."""
    before, after = _last_two(ells)
    left = [(before + after) @ np.array(ells) ** -order / 2 for order in _ORDERS]
    shares = [remaining / (1 - remaining) for remaining in left]
    return float(min(shares)), float(max(shares))
