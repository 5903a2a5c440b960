"""Means over part of the runs of one setting, whose records are averaged over seeds first.

N and G of one run are too noisy to tell a drift from.
"""

import math

import numpy as np

from keras_svag._checks import one_of
from keras_svag.theory.equilibrium.window import Window, examine_window, find_window
from keras_svag.theory.quantities import QUANTITIES

AUTO, GIVEN = "auto", "config"


def measure_window(histories, total, window, weight_decay, mode=AUTO):
    """The window over which the runs of one setting (all seeds) are averaged.

    `"auto"` takes what `find_window` finds, if equilibrium is reached there. Otherwise the given
    window is used as it is, and tested.

    Args:
        histories: list with the rows of `metrics.jsonl` of each finished run.
        total: effective steps of the runs.
        window: tuple of two fractions of the run, to be used where none is found.
        weight_decay: lambda >= 0 of these runs.
        mode: `"auto"`, or `"config"` for the given window. Defaults to `"auto"`.

    Returns:
        A `Window`, with `fractions`.

    Raises:
        ValueError: if `mode` is not one of the two.
    """
    one_of("mode", mode, (AUTO, GIVEN))
    given = tuple(window)
    if not histories:
        return Window(0, 0, [], None, None, {}, None, "No run finished.", given)
    rows = mean_rows(histories)
    if mode == AUTO:
        found = find_window(rows, weight_decay, total=total)
        if found.reached:
            return found
    inside = np.flatnonzero(lengths_inside([row["effective_step"] for row in rows], total, given))
    # The row before the window tells where it starts.
    begin = max(inside[0] - 1, 0)
    return examine_window(
        rows[begin : inside[-1] + 1],
        weight_decay,
        has_identity=weight_decay > 0,
        rate_since=_start_of_rate(rows, begin + 1),
        fractions=given,
    )


def mean_rows(histories):
    """Rows of one setting, R, N and G averaged over its runs.

    Args:
        histories: list with the rows of each run; all of the same steps.

    Returns:
        A list of dicts.
    """
    return [
        {
            **{name: rows[0][name] for name in ("step", "effective_step", "learning_rate")},
            **{name: float(np.mean([_number(row[name]) for row in rows])) for name in QUANTITIES},
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


def window_means(rows, total, window):
    """Means of a run over part of its length.

    N, G and the running loss and accuracy are means over all steps of the window; R and the
    evaluations are means over its records.

    Args:
        rows: rows of `metrics.jsonl`.
        total: effective steps of the run.
        window: tuple of two fractions of the run.

    Returns:
        A dict from the name of a column to a float, or an empty one if no record lies inside.
    """
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


def lengths_inside(points, total, window):
    """Lengths of the records that lie inside a window of a run, 0 for the others.

    Args:
        points: effective steps at which records end.
        total: effective steps of the run.
        window: tuple of two fractions of the run.

    Returns:
        A list of numbers.
    """
    # Rounded, so that a fraction k/total is step k.
    first, last = (round(fraction * total, 6) for fraction in window)
    # Records end on whole effective steps, the window need not: hence the 1.
    return [
        end - start if start > first - 1 and end < last + 1 else 0
        for start, end in zip([0, *points[:-1]], points)
    ]


def _number(value):
    return math.nan if value is None else value
