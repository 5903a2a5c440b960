"""Test of a segment of a run for equilibrium: no drift of R, N and G, and the balance of R."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from keras_svag._checks import finite_float
from keras_svag.theory.equilibrium.balance import weight_norm_imbalance
from keras_svag.theory.quantities import NOISE, QUANTITIES, SIGNAL, WEIGHT_NORM, Row, Rows
from keras_svag.theory.statistics.drift import relative_drift
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval
from keras_svag.theory.statistics.running_means import as_rows, row_lengths

TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class EquilibriumTest:
    """Result of a test for equilibrium.

    Attributes:
        drifts: Dict from quantity to the `Interval` of its relative change over the segment.
        imbalance: `Interval`, see `weight_norm_imbalance`.
        is_steady: True if every drift is within the tolerance, False if one is not, `None` if the
            intervals are too wide.
        is_balanced: The same for the imbalance.
        reason: One sentence on the result, with a remedy.
    """

    drifts: dict[str, Interval]
    imbalance: Interval
    is_steady: bool | None
    is_balanced: bool | None
    reason: str

    @property
    def in_equilibrium(self) -> bool | None:
        """True if steady and balanced, False if not, `None` if the intervals are too wide."""
        if self.is_steady is False or self.is_balanced is False:
            return False
        return True if self.is_steady and self.is_balanced else None


def equilibrium_test(
    rows: Rows,
    weight_decay: float,
    learning_rate: float | None = None,
    ell: float = 1.0,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
) -> EquilibriumTest:
    """Tests a segment of a run for drift of R, N, G and for the balance of R.

    A run that is still approaching equilibrium drifts but is balanced; one whose loss is not scale
    invariant is steady but not balanced.

    Args:
        rows: Rows of a run's `metrics.jsonl`, or dicts with `step`, `weight_norm` at that step, and
            the means of `gradient_noise` and `gradient_signal` since the previous row.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regularizer.
        learning_rate: eta of the SGD run. Defaults to `None`, the column `learning_rate`.
        ell: Amplification. Defaults to `1.0`.
        tolerance: Largest relative change and imbalance that are accepted. Defaults to `0.1`.
        confidence: Confidence of the intervals, in (0, 1). Defaults to `0.95`.

    Returns:
        An `EquilibriumTest`.

    Raises:
        ValueError: If there are fewer than five rows, the learning rate changes, or an argument is
            out of range.

    Example:

    >>> # eta (G + N) = (2 lambda - eta lambda^2) R, with eta = 0.5 and lambda = 0.01.
    >>> row = {"weight_norm": 0.5 * 4 / 0.01995, "gradient_noise": 3.0, "gradient_signal": 1.0}
    >>> rows = [{"step": 10 * i, **row} for i in range(9)]
    >>> equilibrium_test(rows, weight_decay=0.01, learning_rate=0.5).in_equilibrium
    True
    """
    rows = as_rows(rows)
    if len(rows) < 5:
        raise ValueError(
            f"`rows` must have at least 5 rows. Received: {len(rows)} rows. Record more often or "
            "use a longer segment."
        )
    tolerance = finite_float("tolerance", tolerance, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    eta = _constant_learning_rate(rows) if learning_rate is None else learning_rate
    steps = row_lengths(rows[1:], rows[0]["step"])
    columns = {name: np.array([row[name] for row in rows], float) for name in QUANTITIES}

    def intervals(level: float) -> tuple[dict[str, Interval], Interval]:
        drifts = {
            name: relative_drift(column[1:], steps, level) for name, column in columns.items()
        }
        imbalance = weight_norm_imbalance(
            columns[WEIGHT_NORM],
            columns[NOISE][1:],
            columns[SIGNAL][1:],
            steps,
            eta,
            decay,
            ell,
            confidence=level,
        )
        return drifts, imbalance

    drifts, imbalance = intervals(confidence)
    strict_drifts, strict_imbalance = intervals(1 - (1 - confidence) / (len(drifts) + 1))
    is_steady = _within(drifts.values(), strict_drifts.values(), tolerance)
    is_balanced = _within([imbalance], [strict_imbalance], tolerance)
    rate = 4 * eta * decay
    time_constant = ell / rate if rate else math.inf  # the product may underflow
    reason = _describe(drifts, imbalance) + _explain(
        drifts, imbalance, is_steady, is_balanced, tolerance, time_constant
    )
    return EquilibriumTest(drifts, imbalance, is_steady, is_balanced, reason)


def _constant_learning_rate(rows: Sequence[Row]) -> float:
    rates = np.array([row["learning_rate"] for row in rows[1:]], float)
    if not np.allclose(rates, rates[0], rtol=1e-6, atol=0):
        raise ValueError(
            f"`rows` must have one learning rate. Received: rates from {rates.min():g} to "
            f"{rates.max():g}. Use rows between two changes."
        )
    return float(rates[0])


def _within(
    intervals: Iterable[Interval], strict_intervals: Iterable[Interval], tolerance: float
) -> bool | None:
    if any(i.ci_low > tolerance or i.ci_high < -tolerance for i in strict_intervals):
        return False
    return True if all(_is_inside(i, tolerance) for i in intervals) else None


def _is_inside(interval: Interval, tolerance: float) -> bool:
    return -tolerance <= interval.ci_low and interval.ci_high <= tolerance


def _describe(drifts: dict[str, Interval], imbalance: Interval) -> str:
    changes = ", ".join(f"{name} {_percent(i)}" for name, i in drifts.items())
    return f"Relative change of {changes}; imbalance of weight_norm {_percent(imbalance)}. "


def _percent(interval: Interval) -> str:
    low, high = 100 * interval.ci_low, 100 * interval.ci_high
    return f"{100 * interval.mean:.3g} % ({low:.3g} to {high:.3g} %)"


def _explain(
    drifts: dict[str, Interval],
    imbalance: Interval,
    is_steady: bool | None,
    is_balanced: bool | None,
    tolerance: float,
    time_constant: float,
) -> str:
    if is_balanced is False:
        return (
            "Noise, signal and weight decay do not account for weight_norm: the loss is not scale "
            "invariant, or there is momentum, clipping, or another weight decay."
        )
    if is_steady is False:
        return (
            f"Not yet in equilibrium, which takes some {time_constant:.3g} steps "
            "(ell / (4 eta lambda)). Use a later segment."
        )
    if is_steady and is_balanced:
        return f"In equilibrium within {100 * tolerance:.3g} %."
    undecided = [
        f"the change of {name}" for name, i in drifts.items() if not _is_inside(i, tolerance)
    ]
    undecided += [] if _is_inside(imbalance, tolerance) else ["the imbalance"]
    return (
        f"Cannot tell if {' and '.join(undecided)} is within {100 * tolerance:.3g} %. Use a longer "
        "segment."
    )
