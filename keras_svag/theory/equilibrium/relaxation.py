"""Segments of a run at one learning rate, and where equilibrium can begin in them."""

import math
from collections.abc import Sequence

from keras_svag.theory.quantities import Row

MIN_ROWS = 8
# In each, 1 / (2 eta lambda) steps, R falls towards its equilibrium by a factor e.
RELAXATION_TIMES = 3


def same_rate(row: Row, other: Row) -> bool:
    """Returns True if two rows have the same learning rate, up to rounding."""
    return math.isclose(row["learning_rate"], other["learning_rate"], rel_tol=1e-6)


def constant_rate_segment(rows: Sequence[Row]) -> tuple[int, int]:
    """Returns the range of indices of the longest segment at one learning rate."""
    longest, first = (0, 0), 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or not same_rate(rows[stop], rows[first]):
            longest = max(longest, (first, stop), key=lambda pair: pair[1] - pair[0])
            first = stop
    return longest


def relaxation_steps(learning_rate: float, weight_decay: float, ell: float = 1.0) -> float:
    """Number of steps after which R can have reached its equilibrium: three relaxation times.

    Args:
        learning_rate: eta of the SGD run.
        weight_decay: lambda > 0, decoupled as in Keras.
        ell: Amplification. Defaults to `1.0`.

    Returns:
        A float.

    Example:

    >>> relaxation_steps(0.5, 0.01)
    300.0
    """
    return RELAXATION_TIMES * ell / (2 * learning_rate * weight_decay)


def candidate_starts(rows: Sequence[Row], first: int, stop: int, burn_in: float) -> list[int]:
    """Returns the rows after `burn_in` steps that leave at least 8 rows and a quarter of all."""
    since = rows[first - 1]["step"] if first else 0
    last = stop - max(MIN_ROWS, (stop - first) // 4)
    return [i for i in range(first, last) if rows[i]["step"] >= since + burn_in]
