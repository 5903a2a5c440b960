"""Plain-text tables, as trainers print them."""


def align(rows, left=False):
    """Returns a line per row, a tuple of cells, with columns aligned on the right or left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width) for cell, width in zip(row, widths)
        )
        for row in rows
    ]


def format_interval(value):
    """Formats an `Interval` as JSON holds it, or `None`, as the mean and half its length."""
    if value is None or value["mean"] is None:
        return "-"
    low, high = value["ci_low"], value["ci_high"]
    if low is None or high is None:
        return f"{value['mean']:.4g} (no interval)"
    return f"{value['mean']:.4g} +- {(high - low) / 2:.2g}"
