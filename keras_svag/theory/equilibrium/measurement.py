"""Windows and means of the runs of one setting, whose records are averaged over seeds first."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_svag._checks import one_of
from keras_svag.theory.equilibrium.relaxation import same_rate
from keras_svag.theory.equilibrium.window import Window, examine_window, find_window
from keras_svag.theory.quantities import QUANTITIES, Row

AUTO, GIVEN = "auto", "config"


def measure_window(
    histories: Sequence[Sequence[Row]],
    total: float,
    window: Sequence[float],
    weight_decay: float,
    mode: str = AUTO,
) -> Window:
    """Finds the equilibrium of runs of `total` effective steps; else tests the given `window`."""
    one_of("mode", mode, (AUTO, GIVEN))
    given = (window[0], window[1])
    if not histories:
        return Window(0, 0, [], None, None, {}, None, "No run finished.", given)
    # N and G of a single run are too noisy to show a drift.
    rows = mean_rows(histories)
    if mode == AUTO:
        found = find_window(rows, weight_decay, total=total)
        if found.reached:
            return found
    inside = np.flatnonzero(lengths_inside([row["effective_step"] for row in rows], total, given))
    # The window starts where the row before it ends.
    begin = max(inside[0] - 1, 0)
    tested = examine_window(
        rows[begin : inside[-1] + 1],
        weight_decay,
        has_identity=weight_decay > 0,
        rate_start=_rate_start(rows, begin + 1),
        fractions=given,
    )
    if not tested.drifts and not all(same_rate(row, tested.rows[0]) for row in tested.rows):
        # Each learning rate has an equilibrium of its own.
        reason = "Equilibrium could not be tested: the learning rate changes within the window."
        return dataclasses.replace(tested, reason=reason)
    return tested


def mean_rows(histories: Sequence[Sequence[Row]]) -> list[Row]:
    """Averages R, N and G of several runs, row by row."""
    return [
        {
            **{name: rows[0][name] for name in ("step", "effective_step", "learning_rate")},
            **{name: float(np.mean([_number(row[name]) for row in rows])) for name in QUANTITIES},
        }
        for rows in zip(*histories)
    ]


def _rate_start(rows: Sequence[Row], index: int) -> float:
    """Step at which the learning rate of row `index` begins."""
    index = min(index, len(rows) - 1)
    while index and same_rate(rows[index - 1], rows[index]):
        index -= 1
    return rows[index - 1]["step"] if index else 0


def window_means(rows: Sequence[Row], total: float, window: Sequence[float]) -> dict[str, float]:
    """Averages the columns of a run over a window, weighted by steps; empty without records."""
    lengths = lengths_inside([row["effective_step"] for row in rows], total, window)
    inside = [(row, length) for row, length in zip(rows, lengths) if length]
    if not inside:
        return {}
    weights = [length for _, length in inside]
    return {
        name: float(np.average([_number(row[name]) for row, _ in inside], weights=weights))
        for name in rows[0]
        if name not in ("step", "effective_step", "time", "noise_to_signal")
    }


def lengths_inside(ends: Sequence[float], total: float, window: Sequence[float]) -> list[float]:
    """Lengths of the records inside a window, 0 for others, from the steps at which they end."""
    # Rounded, so that a fraction k/total is step k.
    first, last = (round(fraction * total, 6) for fraction in window)
    # Records end on whole effective steps, the window need not: hence the 1.
    return [
        end - start if start > first - 1 and end < last + 1 else 0
        for start, end in zip([0, *ends[:-1]], ends)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
