"""The part of a run over which N, G and R may be averaged, since they no longer change.

N is the gradient noise, G the gradient signal, R the squared weight norm. Studies and the
batch-size advisor share this; the tests of drift and balance are in `theory/stationarity.py`.
"""

import dataclasses
import math

import numpy as np

from keras_svag.theory.equilibrium.balance import equilibrium_weight_norm
from keras_svag.theory.equilibrium.relaxation import (
    MIN_ROWS,
    candidate_starts,
    constant_rate_stretch,
    relaxation_steps,
)
from keras_svag.theory.equilibrium.stationarity import equilibrium_test
from keras_svag.theory.quantities import QUANTITIES
from keras_svag.theory.statistics.drift import relative_drift

TOLERANCE = 0.1


def shows_no_drift(drifts):
    """Tells whether N, G and R stay where they are, as far as averages over a stretch need it.

    R, which is smooth, changes by no more than 10 % over the stretch; of N and G no larger change
    is shown (their intervals reach inside 10 %: to ask for more would need longer runs than most).

    Args:
        drifts: dict from quantity to the `Interval` of `relative_drift`.

    Returns:
        A bool.
    """
    norm, noise, signal = (drifts[name] for name in QUANTITIES)
    if not abs(norm.mean) <= TOLERANCE:
        return False
    return not any(i.ci_low > TOLERANCE or i.ci_high < -TOLERANCE for i in (noise, signal))


def is_steady(rows, test, weight_decay, ell=1.0, rate_since=0):
    """Tells whether runs of SGD without momentum are in equilibrium over a stretch.

    N, G and R do not drift (`shows_no_drift`), and the identity
    `(2 lambda - eta lambda^2) R = eta (G + N)` holds within 10 %, which a slow drift would break.
    Where the loss is not scale invariant the identity says nothing; in its place the stretch must
    start after three relaxation times.

    Args:
        rows: the rows that `test` was made from.
        test: what `equilibrium_test` returned.
        weight_decay: lambda.
        ell: amplification. Defaults to `1.0`.
        rate_since: step since which the learning rate is what it is. Defaults to `0`.

    Returns:
        A bool.
    """
    if not shows_no_drift(test.drifts):
        return False
    if test.is_balanced is False:
        needed = relaxation_steps(rows[1]["learning_rate"], weight_decay, ell)
        return rows[0]["step"] - rate_since >= needed
    return abs(identity_ratio(rows, weight_decay, ell) - 1) <= TOLERANCE


def identity_ratio(rows, weight_decay, ell=1.0):
    """R over a stretch, as a fraction of what its N and G keep up: 1 in equilibrium.

    Args:
        rows: rows at one learning rate; the first only tells where the stretch starts.
        weight_decay: lambda.
        ell: amplification. Defaults to `1.0`.

    Returns:
        A float; NaN where no row has finite values.
    """
    lengths = np.diff([row["step"] for row in rows])
    columns = np.array([[row[name] for name in QUANTITIES] for row in rows[1:]])
    finite = np.isfinite(columns).all(axis=1)
    if not finite.any():
        return math.nan
    norm, noise, signal = np.average(columns[finite], axis=0, weights=lengths[finite])
    rate = rows[1]["learning_rate"]
    return float(norm / equilibrium_weight_norm(noise, signal, rate, weight_decay, ell))


@dataclasses.dataclass(frozen=True)
class Window:
    """The part of a run over which is averaged.

    Attributes:
        start: the step at which the first of its rows begins.
        stop: the step at which the last of them ends.
        rows: its rows.
        reached: whether it is in equilibrium: True, False, or `None` where that cannot be told.
        is_balanced: whether N, G and weight decay account for the change of R, as they do where
            the loss is scale invariant and momentum is 0; `None` where that cannot be told.
        drifts: dict from quantity to the `Interval` of its relative change; empty without a test.
        imbalance: `Interval`, see `weight_norm_imbalance`; or `None`.
        reason: what was found, in words.
        fractions: tuple, the window as two fractions of the run, in effective steps; `None` where
            the length of the run is not known.
    """

    start: int
    stop: int
    rows: list
    reached: bool | None
    is_balanced: bool | None
    drifts: dict
    imbalance: object
    reason: str
    fractions: tuple | None = None


def find_window(rows, weight_decay, ell=1.0, has_identity=True, max_starts=None, total=None):
    """The window of a run that is in equilibrium, or the best there is.

    It lies in the longest stretch at one learning rate. With weight decay lambda, three relaxation
    times `1 / (2 eta lambda)` of R are left out. It starts as early as it can such that N, G and R
    do not drift until the stretch's end, which must leave a quarter of the stretch; R must also
    agree with its equilibrium identity, unless the loss is seen not to be scale invariant
    (`is_steady`). Where there is no such window, it is the second half of what there is at one
    learning rate.

    Args:
        rows: list of dicts in order of time, each with `step` at its end, `weight_norm` there,
            `learning_rate`, and `gradient_noise` and `gradient_signal`, means over the steps since
            the row before it.
        weight_decay: lambda >= 0. Without it nothing holds R where it is, so `reached` is `None`
            at best.
        ell: amplification. Defaults to `1.0`.
        has_identity: whether R may have its equilibrium identity: momentum is 0, and it is not
            known that the loss is not scale invariant. Otherwise only drift is tested. Defaults to
            `True`.
        max_starts: how many starts are tried, evenly spaced, of a long run that has thousands of
            rows. Defaults to `None`, all of them.
        total: effective steps of the run, if rows have `effective_step` and the window is wanted as
            fractions of it. Defaults to `None`.

    Returns:
        A `Window`.

    Example:

    >>> row = {"learning_rate": 0.5, "gradient_noise": 3.0, "gradient_signal": 0.96}
    >>> rows = [{"step": 10 * i, "weight_norm": 99.5, **row} for i in range(1, 101)]
    >>> window = find_window(rows, weight_decay=0.01)
    >>> window.reached, window.start, window.stop  # 3 / (2 eta lambda) = 300
    (True, 300, 1000)
    """
    first, stop = constant_rate_stretch(rows)
    if stop - first <= MIN_ROWS:
        if len(rows) <= 2 * MIN_ROWS:
            reason = f"Equilibrium cannot be told yet from {stop - first} readings."
            return _second_half(rows[first:stop], reason)
        reason = "Equilibrium not reached: the learning rate never stays the same for long."
        return _second_half(rows, reason)
    rate = rows[first]["learning_rate"]
    since = rows[first - 1]["step"] if first else 0
    wait = relaxation_steps(rate, weight_decay, ell) if weight_decay and rate > 0 else 0.0
    starts = candidate_starts(rows, first, stop, wait)
    if not starts:
        reason = (
            f"Equilibrium not reached: R approaches it over some {wait:.3g} steps at this learning "
            "rate (3 / (2 eta lambda)), and a quarter of the run should lie beyond; "
            f"{rows[stop - 1]['step'] - since} steps are taken."
        )
        return _second_half(rows[first:stop], reason)

    def examine(start):
        fractions = total and tuple(rows[i]["effective_step"] / total for i in (start, stop - 1))
        with_balance = has_identity and weight_decay > 0
        return examine_window(rows[start:stop], weight_decay, ell, with_balance, since, fractions)

    for start in _spread(starts, max_starts):
        window = examine(start)
        if window.reached is (True if weight_decay else None):
            return window
    return examine(min((starts[0] + stop) // 2, starts[-1]))


def _spread(starts, count):
    if count is None or count >= len(starts):
        return starts
    return [starts[int(place)] for place in np.linspace(0, len(starts) - 1, count)]


def _second_half(rows, reason):
    half = rows[len(rows) // 2 :]
    start = rows[len(rows) // 2 - 1]["step"] if len(rows) > 1 else 0
    return Window(start, half[-1]["step"], half, False, None, {}, None, reason)


def examine_window(rows, weight_decay, ell=1.0, has_identity=True, rate_since=0, fractions=None):
    """Tests a window for equilibrium.

    Args:
        rows: as for `find_window`; of the first one only the step and R count, where the window
            starts.
        weight_decay: lambda; > 0 for `has_identity`.
        ell: amplification. Defaults to `1.0`.
        has_identity: see `find_window`. Defaults to `True`.
        rate_since: step since which the learning rate is what it is. Defaults to `0`.
        fractions: the window as fractions of the run, for the record. Defaults to `None`.

    Returns:
        A `Window`.
    """
    imbalance = balanced = None
    try:
        if has_identity:
            if not rows[-1]["learning_rate"]:
                raise ValueError("the learning rate is 0 there.")
            test = equilibrium_test(rows, weight_decay, ell=ell, tolerance=TOLERANCE)
            drifts, imbalance, balanced = test.drifts, test.imbalance, test.is_balanced
            steady = is_steady(rows, test, weight_decay, ell, rate_since)
        else:
            steps = np.diff([row["step"] for row in rows])
            columns = {name: [row[name] for row in rows[1:]] for name in QUANTITIES}
            drifts = {name: relative_drift(column, steps) for name, column in columns.items()}
            steady = shows_no_drift(drifts)
    except ValueError as error:
        steady, drifts, imbalance, balanced = None, {}, None, None
        reason = f"Equilibrium could not be tested: {error}"
    else:
        reason = _describe(drifts, steady)
        if balanced is False:
            reason += "as with momentum, or a loss that is not scale invariant, no identity for R."
        elif imbalance is None:
            reason += "no identity for R."
        else:
            reason += (
                f"imbalance of R {100 * imbalance.mean:.2g} %; R is "
                f"{identity_ratio(rows, weight_decay, ell):.3g} times that of the identity."
            )
    # Without weight decay nothing holds R where it is.
    reached = None if steady and not weight_decay else steady
    start, stop = rows[0]["step"], rows[-1]["step"]
    return Window(start, stop, rows[1:], reached, balanced, drifts, imbalance, reason, fractions)


def _describe(drifts, steady):
    norm, noise, signal = (f"{100 * drifts[name].mean:.2g} %" for name in QUANTITIES)
    word = "Steady" if steady else "Not steady"
    return f"{word}: R changes by {norm}, N by {noise}, G by {signal}; "
