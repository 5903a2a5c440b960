"""Tests a stretch of a run for equilibrium: no drift of R, N and G, and the balance of R."""

import dataclasses
import math

import numpy as np

from keras_svag._checks import finite_float
from keras_svag.theory.equilibrium.balance import weight_norm_imbalance
from keras_svag.theory.quantities import NOISE, SIGNAL, WEIGHT_NORM
from keras_svag.theory.statistics.drift import relative_drift
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval
from keras_svag.theory.statistics.running_means import as_rows, row_lengths

_TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class EquilibriumTest:
    """Outcome of a test of equilibrium, and the reason.

    Attributes:
        drifts: dict from quantity to the `Interval` of its relative change over the stretch.
        imbalance: `Interval`, see `weight_norm_imbalance`.
        is_steady: whether every drift is within the tolerance: True, False, or `None` where the
            intervals do not tell.
        is_balanced: the same of the imbalance.
        reason: one sentence on what was found and what would help.
    """

    drifts: dict
    imbalance: Interval
    is_steady: bool | None
    is_balanced: bool | None
    reason: str

    @property
    def in_equilibrium(self):
        """True, False, or `None` where the intervals do not tell."""
        if self.is_steady is False or self.is_balanced is False:
            return False
        return True if self.is_steady and self.is_balanced else None


def equilibrium_test(
    rows,
    weight_decay,
    learning_rate=None,
    ell=1.0,
    tolerance=_TOLERANCE,
    confidence=CONFIDENCE,
):
    """Tests a stretch of a run for drift of R, N, G and for the balance of R.

    The two together tell a run that is still under way (drift, but balanced) from one whose loss
    is not scale invariant (steady, but not balanced). "Within the tolerance" is shown by intervals
    that lie inside it; "not within", by one wholly outside, Bonferroni-corrected.

    Args:
        rows: rows of a run's `metrics.jsonl`, or dicts with the same columns: `step`,
            `weight_norm` at that step, and `gradient_noise` and `gradient_signal`, means since the
            row before. Of the first row only `step` and `weight_norm` are used. The learning rate
            must be the same in all rows.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regulariser.
        learning_rate: eta, of the SGD run that is modelled. Defaults to the column
            `learning_rate`.
        ell: amplification. Defaults to `1.0`.
        tolerance: largest relative change and imbalance that count as none. Defaults to `0.1`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `EquilibriumTest`.

    Raises:
        ValueError: if there are fewer than five rows, steps do not increase, the learning rate
            changes, or an argument is out of range.
    """
    rows = as_rows(rows)
    if len(rows) < 5:
        raise ValueError(
            f"`rows` must be at least 5, to see a trend. Received: {len(rows)} rows. Record more "
            "often, or use a longer stretch."
        )
    tolerance = finite_float("tolerance", tolerance, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    eta = _constant_learning_rate(rows) if learning_rate is None else learning_rate
    steps = row_lengths(rows[1:], rows[0]["step"])
    columns = {
        name: np.array([row[name] for row in rows], float) for name in (WEIGHT_NORM, NOISE, SIGNAL)
    }

    def intervals(level):
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
    wait = ell / rate if rate > 0 else math.inf
    facts = _describe(drifts, imbalance)
    reason = facts + _explain(drifts, imbalance, is_steady, is_balanced, tolerance, wait)
    return EquilibriumTest(drifts, imbalance, is_steady, is_balanced, reason)


def _constant_learning_rate(rows):
    rates = np.array([row["learning_rate"] for row in rows[1:]], float)
    if not np.allclose(rates, rates[0], rtol=1e-6, atol=0):
        raise ValueError(
            "`rows` must have one learning rate: each has an equilibrium of its own. Received: "
            f"rates from {rates.min():g} to {rates.max():g}. Take rows between two changes."
        )
    return float(rates[0])


def _within(intervals, strict_intervals, tolerance):
    if any(i.ci_low > tolerance or i.ci_high < -tolerance for i in strict_intervals):
        return False
    return True if all(_is_inside(i, tolerance) for i in intervals) else None


def _is_inside(interval, tolerance):
    return -tolerance <= interval.ci_low and interval.ci_high <= tolerance


def _describe(drifts, imbalance):
    changes = ", ".join(f"{name} {_percent(i)}" for name, i in drifts.items())
    return f"Relative change of {changes}; imbalance of weight_norm {_percent(imbalance)}. "


def _percent(interval):
    low, high = 100 * interval.ci_low, 100 * interval.ci_high
    return f"{100 * interval.mean:.3g} % ({low:.3g} to {high:.3g} %)"


def _explain(drifts, imbalance, is_steady, is_balanced, tolerance, wait):
    if is_balanced is False:
        return (
            "Noise, signal and weight decay do not account for weight_norm: the loss is not scale "
            "invariant (or there is momentum, clipping, or another weight decay than was given)."
        )
    if is_steady is False:
        return (
            f"Not yet in equilibrium, which is approached over some {wait:.3g} steps "
            "(ell / (4 eta lambda)); take a later stretch."
        )
    if is_steady and is_balanced:
        return f"In equilibrium within {100 * tolerance:.3g} %."
    undecided = [
        f"the change of {name}" for name, i in drifts.items() if not _is_inside(i, tolerance)
    ]
    undecided += [] if _is_inside(imbalance, tolerance) else ["the imbalance"]
    return (
        f"Whether {' and '.join(undecided)} is within {100 * tolerance:.3g} % cannot be told; a "
        "longer stretch would narrow the interval."
    )
