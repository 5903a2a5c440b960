"""Where in a run equilibrium can be looked for: learning rates and relaxation times."""

import math

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
