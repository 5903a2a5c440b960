"""Where in a run N, G and R no longer change: what studies and the batch-size advisor share.

N is the gradient noise, G the gradient signal, R the squared weight norm The tests themselves
are in `theory/stationarity.py`; here is what counts as "no longer" for averages.
"""

import math

import numpy as np

from keras_svag.theory.balance import equilibrium_weight_norm
from keras_svag.theory.quantities import QUANTITIES

TOLERANCE = 0.1
MIN_ROWS = 8
# Of 1 / (2 eta lambda) steps each, in which R falls from above by a factor e.
RELAXATION_TIMES = 3


def constant_rate_stretch(rows):
    """The longest stretch of rows that end at the same learning rate.

    Args:
        rows: dicts with `learning_rate`.

    Returns:
        A tuple `(first, stop)` of indices.

    Example:

    >>> constant_rate_stretch([{"learning_rate": rate} for rate in (0.1, 0.2, 0.2, 0.2, 0.02)])
    (1, 4)
    """
    longest, first = (0, 0), 0
    for stop in range(1, len(rows) + 1):
        ends = stop == len(rows) or not math.isclose(
            rows[stop]["learning_rate"], rows[first]["learning_rate"], rel_tol=1e-6
        )
        if ends:
            longest = max(longest, (first, stop), key=lambda pair: pair[1] - pair[0])
            first = stop
    return longest


def relaxation_steps(learning_rate, weight_decay, ell=1.0):
    """Steps to leave out before R can have fallen to its equilibrium: three relaxation times.

    Args:
        learning_rate: eta, of the SGD run that is modelled.
        weight_decay: lambda > 0, decoupled as Keras has it.
        ell: amplification. Defaults to `1.0`.

    Returns:
        A float.

    Example:

    >>> relaxation_steps(0.5, 0.01)
    300.0
    """
    return RELAXATION_TIMES * ell / (2 * learning_rate * weight_decay)


def candidate_starts(rows, first, stop, wait):
    """Where in a stretch at one learning rate averages may start.

    Args:
        rows: dicts with `step`, at which each ends.
        first: index of the first row of the stretch.
        stop: the index after its last row.
        wait: steps of the stretch to leave out.

    Returns:
        A list of indices: those rows that end after `wait` steps of the stretch and are followed by
        at least a quarter of it, and eight rows.

    Example:

    >>> rows = [{"step": 10 * i} for i in range(1, 31)]
    >>> candidate_starts(rows, 10, 30, wait=50)
    [14, 15, 16, 17, 18, 19, 20, 21]
    """
    since = rows[first - 1]["step"] if first else 0
    last = stop - max(MIN_ROWS, (stop - first) // 4)
    return [i for i in range(first, last) if rows[i]["step"] >= since + wait]


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
        A float.
    """
    lengths = np.diff([row["step"] for row in rows])
    columns = np.array([[row[name] for name in QUANTITIES] for row in rows[1:]])
    finite = np.isfinite(columns).all(axis=1)
    norm, noise, signal = np.average(columns[finite], axis=0, weights=lengths[finite])
    rate = rows[1]["learning_rate"]
    return float(norm / equilibrium_weight_norm(noise, signal, rate, weight_decay, ell))
