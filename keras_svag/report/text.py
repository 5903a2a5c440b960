"""Tables in plain text, as trainers print them."""


def align(lines, left=False):
    """Puts cells below each other.

    Args:
        lines: list of tuples of strings, all of the same length.
        left: whether cells are aligned on the left. Defaults to `False`.

    Returns:
        A list of strings.

    Example:

    >>> align([("B", "seeds"), ("128", "4")])
    ['  B  seeds', '128      4']
    """
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width) for cell, width in zip(line, widths)
        )
        for line in lines
    ]


def format_interval(value):
    """A mean with half the length of its interval.

    Args:
        value: an `Interval` as JSON holds it, or `None`.

    Returns:
        A string.

    Example:

    >>> format_interval({"mean": 2.0, "ci_low": 1.5, "ci_high": 2.5})
    '2 +- 0.5'
    """
    if value is None or value["mean"] is None:
        return "-"
    low, high = value["ci_low"], value["ci_high"]
    if low is None or high is None:
        return f"{value['mean']:.4g} (no interval)"
    return f"{value['mean']:.4g} +- {(high - low) / 2:.2g}"
