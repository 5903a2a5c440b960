"""The part of a run over which N, G and R are averaged: found from its records, or given.

Records are averaged over seeds first: N and G of one run are too noisy to tell a drift from.
"""

import dataclasses
import math

import numpy as np

from keras_svag.study import runs
from keras_svag.study.config import AUTO
from keras_svag.theory import (
    MIN_ROWS,
    QUANTITIES,
    TOLERANCE,
    candidate_starts,
    constant_rate_stretch,
    equilibrium_test,
    identity_ratio,
    is_steady,
    relaxation_steps,
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """The part of the runs of one setting over which is averaged.

    Attributes:
        window: tuple of two fractions of the run.
        reached: whether the runs are in equilibrium there: True, False, or `None` where that could
            not be tested.
        is_balanced: whether N, G and weight decay account for the change of R, as they do where
            the loss is scale invariant and momentum is 0; `None` where that cannot be told.
        drifts: dict from quantity to the `Interval` of its relative change, seeds averaged.
        imbalance: `Interval`, see `statistics.weight_norm_imbalance`; or `None`.
        reason: what was found, in words.
    """

    window: tuple
    reached: bool | None
    is_balanced: bool | None
    drifts: dict
    imbalance: object
    reason: str


def find_phase(histories, total, config, mode=AUTO, weight_decay=None):
    """The window over which the runs of one setting (all seeds) are averaged.

    `"auto"` takes the longest stretch at one learning rate, leaves out three relaxation times
    `1 / (2 eta lambda)` of R, and starts where `is_steady` first holds until the stretch's end,
    which must leave a quarter of the stretch. Where it never holds the config's `equilibrium` is
    used, and `reached` is False.

    Args:
        histories: list with the rows of `metrics.jsonl` of each finished run.
        total: effective steps of the runs.
        config: a validated config.
        mode: `"auto"`, or `"config"` for the config's `equilibrium` as it is.
        weight_decay: that of these runs. Defaults to `None`, that of the config.

    Returns:
        A `Phase`.
    """
    given = tuple(config["equilibrium"])
    weight_decay = config["weight_decay"] if weight_decay is None else weight_decay
    if not histories:
        return Phase(given, None, None, {}, None, "No run finished.")
    rows = mean_rows(histories)
    if mode == AUTO:
        found = _find_start(rows, total, weight_decay)
        if found is not None:
            return found
    points = [row["effective_step"] for row in rows]
    inside = np.flatnonzero(runs.lengths_inside(points, total, given))
    # The row before the window tells where it starts.
    begin = max(inside[0] - 1, 0)
    rate_since = _start_of_rate(rows, begin + 1)
    return _test_window(rows[begin : inside[-1] + 1], given, weight_decay, rate_since)


def mean_rows(histories):
    """Rows of one setting, R, N and G averaged over its runs.

    Args:
        histories: list with the rows of each run; all of the same steps.

    Returns:
        A list of dicts.
    """

    def number(value):
        return math.nan if value is None else value

    return [
        {
            **{name: rows[0][name] for name in ("step", "effective_step", "learning_rate")},
            **{name: float(np.mean([number(row[name]) for row in rows])) for name in QUANTITIES},
        }
        for rows in zip(*histories)
    ]


def _start_of_rate(rows, index):
    """Step since which the learning rate is that of row `index`."""
    index = min(index, len(rows) - 1)
    while index and math.isclose(
        rows[index - 1]["learning_rate"], rows[index]["learning_rate"], rel_tol=1e-6
    ):
        index -= 1
    return rows[index - 1]["step"] if index else 0


def _find_start(rows, total, weight_decay):
    """The `Phase` that starts as early as can be, or `None`."""
    first, stop = constant_rate_stretch(rows)
    if not weight_decay * rows[first]["learning_rate"] or stop - first <= MIN_ROWS:
        return None
    wait = relaxation_steps(rows[first]["learning_rate"], weight_decay)
    rate_since = rows[first - 1]["step"] if first else 0
    for start in candidate_starts(rows, first, stop, wait):
        window = tuple(rows[i]["effective_step"] / total for i in (start, stop - 1))
        phase = _test_window(rows[start:stop], window, weight_decay, rate_since)
        if phase.reached:
            return phase
    return None


def _test_window(rows, window, weight_decay, rate_since):
    try:
        if not rows[-1]["learning_rate"]:
            raise ValueError("the learning rate is 0 there.")
        test = equilibrium_test(rows, weight_decay, tolerance=TOLERANCE)
    except ValueError as error:
        return Phase(window, None, None, {}, None, f"Equilibrium could not be tested: {error}")
    steady = is_steady(rows, test, weight_decay, rate_since=rate_since)
    reason = _describe(rows, test, steady, weight_decay)
    return Phase(window, steady, test.is_balanced, test.drifts, test.imbalance, reason)


def _describe(rows, test, steady, weight_decay):
    norm, noise, signal = (f"{100 * test.drifts[name].mean:.2g} %" for name in QUANTITIES)
    word = "Steady" if steady else "Not steady"
    reason = f"{word}: R changes by {norm}, N by {noise}, G by {signal}; "
    if test.is_balanced is False:
        return (
            reason + "as with momentum, or a loss that is not scale invariant, no identity for R."
        )
    return reason + (
        f"imbalance of R {100 * test.imbalance.mean:.2g} %; R is "
        f"{identity_ratio(rows, weight_decay):.3g} times that of the identity."
    )
