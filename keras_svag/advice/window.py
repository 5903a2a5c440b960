"""The rows of a run that advice is about: the latest at one learning rate, or the latest of all."""

import math

from keras_svag.theory import Window, find_window
from keras_svag.theory.equilibrium.relaxation import MIN_ROWS, same_rate

# A long run has thousands of rows: the search for a window tries only so many starts.
_MAX_STARTS = 8
# While the learning rate moves: this fraction of the run, but about ten rows where there are.
_MOVING_FRACTION, _MOVING_ROWS = 4, 10


def find_rows(rows, optimizer, has_identity):
    """Returns the `theory.Window` to average over, and True if the learning rate moves in it."""
    first = _start_of_last_rate(rows)
    is_constant = not math.isnan(rows[-1]["learning_rate"])
    if is_constant and (first == 0 or len(rows) - first > MIN_ROWS):
        # With the row before, which tells when this learning rate began.
        window = find_window(
            rows[max(first - 1, 0) :],
            optimizer.weight_decay or 0.0,
            ell=getattr(optimizer, "ell", 1.0),
            has_identity=has_identity,
            max_starts=_MAX_STARTS,
        )
        return window, False
    few = min(_MOVING_ROWS, math.ceil(len(rows) / 2))
    start = len(rows) - max(few, len(rows) // _MOVING_FRACTION)
    begin = rows[start - 1]["step"] if start else 0
    reason = "Equilibrium not reached: the learning rate moves, and each has one of its own."
    window = Window(begin, rows[-1]["step"], rows[start:], False, None, {}, None, reason)
    return window, True


def _start_of_last_rate(rows):
    first = len(rows) - 1
    while first and same_rate(rows[first - 1], rows[-1]):
        first -= 1
    return first
