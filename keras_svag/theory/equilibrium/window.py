"""The window of a run over which R, N and G may be averaged, since they no longer change."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_svag.theory.equilibrium.balance import equilibrium_weight_norm
from keras_svag.theory.equilibrium.relaxation import (
    MIN_ROWS,
    candidate_starts,
    constant_rate_segment,
    relaxation_steps,
)
from keras_svag.theory.equilibrium.stationarity import (
    TOLERANCE,
    EquilibriumTest,
    equilibrium_test,
)
from keras_svag.theory.quantities import QUANTITIES, Row
from keras_svag.theory.statistics.drift import relative_drift
from keras_svag.theory.statistics.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Window:
    """Window of a run to average over.

    Attributes:
        start: Step at which the first row of the window begins.
        stop: Step at which the last row ends.
        rows: Rows of the window.
        reached: True if it is in equilibrium, False if not, `None` if that is unknown.
        is_balanced: True if N, G and weight decay account for the change of R, as they do for a
            scale-invariant loss without momentum; `None` if that is unknown.
        drifts: Dict from quantity to the `Interval` of its relative change; empty if not tested.
        imbalance: `Interval`, see `weight_norm_imbalance`; `None` if not tested.
        reason: Result of the test, in words.
        fractions: The window as two fractions of the run, in effective steps; `None` if the length
            of the run is unknown.
    """

    start: float
    stop: float
    rows: list[Row]
    reached: bool | None
    is_balanced: bool | None
    drifts: dict[str, Interval]
    imbalance: Interval | None
    reason: str
    fractions: tuple[float, float] | None = None


def find_window(
    rows: list[Row],
    weight_decay: float,
    ell: float = 1.0,
    has_identity: bool = True,
    max_starts: int | None = None,
    total: float | None = None,
) -> Window:
    """Finds the window of a run that is in equilibrium.

    Searches the longest segment at one learning rate, after a burn-in of three relaxation times
    `1 / (2 eta lambda)`. The window begins at the first row from which N, G and R do not drift
    until the end of the segment, and R agrees with `equilibrium_weight_norm`, unless the loss turns
    out not to be scale invariant. If there is none, it is the second half of the segment.

    Args:
        rows: List of dicts in order of time, each with `step`, `weight_norm` and `learning_rate` at
            its end, and the means of `gradient_noise` and `gradient_signal` since the previous row.
        weight_decay: lambda >= 0. At 0 there is no equilibrium, so `reached` is at best `None`.
        ell: Amplification. Defaults to `1.0`.
        has_identity: Whether to test R against `equilibrium_weight_norm`; use `False` with
            momentum, or if the loss is not scale invariant. Defaults to `True`.
        max_starts: Number of starts to try, evenly spaced. Defaults to `None`, all of them.
        total: Length of the run in effective steps, for `Window.fractions`. Defaults to `None`.

    Returns:
        A `Window`.

    Example:

    >>> row = {"learning_rate": 0.5, "gradient_noise": 3.0, "gradient_signal": 0.96}
    >>> rows = [{"step": 10 * i, "weight_norm": 99.5, **row} for i in range(1, 101)]
    >>> window = find_window(rows, weight_decay=0.01)
    >>> window.reached, window.start, window.stop  # 3 / (2 eta lambda) = 300
    (True, 300, 1000)
    """
    first, stop = constant_rate_segment(rows)
    if stop - first <= MIN_ROWS:
        if len(rows) <= 2 * MIN_ROWS:
            reason = f"Too few records to test for equilibrium: {stop - first}."
            return _second_half(rows[first:stop], reason)
        reason = "Equilibrium not reached: the learning rate never stays the same for long."
        return _second_half(rows, reason)
    rate = rows[first]["learning_rate"]
    since = rows[first - 1]["step"] if first else 0
    burn_in = relaxation_steps(rate, weight_decay, ell) if weight_decay and rate > 0 else 0.0
    starts = candidate_starts(rows, first, stop, burn_in)
    if not starts:
        reason = (
            f"Equilibrium not reached: R takes some {burn_in:.3g} steps at this learning rate "
            "(3 / (2 eta lambda)), and a quarter of the run should follow. So far: "
            f"{rows[stop - 1]['step'] - since} steps."
        )
        return _second_half(rows[first:stop], reason)

    def examine(start: int) -> Window:
        fractions = None
        if total:
            begin, end = rows[start]["effective_step"], rows[stop - 1]["effective_step"]
            fractions = (begin / total, end / total)
        with_balance = has_identity and weight_decay > 0
        return examine_window(rows[start:stop], weight_decay, ell, with_balance, since, fractions)

    tried = starts
    if max_starts is not None and max_starts < len(starts):
        tried = [starts[int(i)] for i in np.linspace(0, len(starts) - 1, max_starts)]
    for start in tried:
        window = examine(start)
        if window.reached is (True if weight_decay else None):
            return window
    return examine(min((starts[0] + stop) // 2, starts[-1]))


def _second_half(rows: list[Row], reason: str) -> Window:
    half = rows[len(rows) // 2 :]
    start = rows[len(rows) // 2 - 1]["step"] if len(rows) > 1 else 0
    return Window(start, half[-1]["step"], half, False, None, {}, None, reason)


def examine_window(
    rows: list[Row],
    weight_decay: float,
    ell: float = 1.0,
    has_identity: bool = True,
    rate_start: float = 0,
    fractions: tuple[float, float] | None = None,
) -> Window:
    """Tests a window, which starts at the end of the first row, for equilibrium."""
    imbalance = is_balanced = None
    try:
        if has_identity:
            if not rows[-1]["learning_rate"]:
                raise ValueError("the learning rate is 0.")
            test = equilibrium_test(rows, weight_decay, ell=ell, tolerance=TOLERANCE)
            drifts, imbalance, is_balanced = test.drifts, test.imbalance, test.is_balanced
            steady = _in_equilibrium(rows, test, weight_decay, ell, rate_start)
        else:
            steps = np.diff([row["step"] for row in rows])
            columns = {name: [row[name] for row in rows[1:]] for name in QUANTITIES}
            drifts = {name: relative_drift(column, steps) for name, column in columns.items()}
            steady = has_no_drift(drifts)
    except ValueError as error:
        steady, drifts, imbalance, is_balanced = None, {}, None, None
        reason = f"Equilibrium could not be tested: {error}"
    else:
        reason = _describe(drifts, steady)
        if is_balanced is False:
            reason += "R is not that of the identity, as with momentum or a loss that is not scale "
            reason += "invariant."
        elif imbalance is None:
            reason += "the identity of R was not tested."
        else:
            reason += (
                f"imbalance of R {100 * imbalance.mean:.2g} %; R is "
                f"{identity_ratio(rows, weight_decay, ell):.3g} times that of the identity."
            )
    # Without weight decay nothing keeps R from growing.
    reached = None if steady and not weight_decay else steady
    start, stop = rows[0]["step"], rows[-1]["step"]
    return Window(start, stop, rows[1:], reached, is_balanced, drifts, imbalance, reason, fractions)


def has_no_drift(drifts: Mapping[str, Interval]) -> bool:
    """Returns True if R changes by at most 10 % and no larger change of N or G is shown."""
    # To show that N and G change by less would take longer runs than most.
    norm, noise, signal = (drifts[name] for name in QUANTITIES)
    if not abs(norm.mean) <= TOLERANCE:
        return False
    return not any(i.ci_low > TOLERANCE or i.ci_high < -TOLERANCE for i in (noise, signal))


def _in_equilibrium(
    rows: Sequence[Row], test: EquilibriumTest, weight_decay: float, ell: float, rate_start: float
) -> bool:
    """Returns True if nothing drifts and R agrees with its identity within 10 %."""
    if not has_no_drift(test.drifts):
        return False
    if test.is_balanced is False:
        # The loss is not scale invariant, so there is no identity that a slow drift would break.
        needed = relaxation_steps(rows[1]["learning_rate"], weight_decay, ell)
        return rows[0]["step"] - rate_start >= needed
    return abs(identity_ratio(rows, weight_decay, ell) - 1) <= TOLERANCE


def identity_ratio(rows: Sequence[Row], weight_decay: float, ell: float = 1.0) -> float:
    """Mean of R over `equilibrium_weight_norm`; the first row only marks the start."""
    lengths = np.diff([row["step"] for row in rows])
    columns = np.array([[row[name] for name in QUANTITIES] for row in rows[1:]])
    finite = np.isfinite(columns).all(axis=1)
    if not finite.any():
        return math.nan
    norm, noise, signal = np.average(columns[finite], axis=0, weights=lengths[finite])
    rate = rows[1]["learning_rate"]
    return float(norm / equilibrium_weight_norm(noise, signal, rate, weight_decay, ell))


def _describe(drifts: Mapping[str, Interval], steady: bool | None) -> str:
    norm, noise, signal = (f"{100 * drifts[name].mean:.2g} %" for name in QUANTITIES)
    word = "Steady" if steady else "Not steady"
    return f"{word}: R changes by {norm}, N by {noise}, G by {signal}; "
