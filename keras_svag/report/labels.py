"""Axis labels in the paper's symbols, and which quantities are fractions."""

import dataclasses
import math

LABELS = {
    "weight_norm": "R = ‖x‖²",
    "gradient_noise": "N = Tr Σ",
    "scaled_noise": "B N = B Tr Σ",
    "gradient_signal": "G = ‖∇L‖²",
    "noise_to_signal": "N/G",
}
EFFECTIVE_STEPS = "steps / ℓ"
KAPPA = "κ = B / base batch size"
EXAMPLES = "examples seen / 1000"


def label_of(column):
    """Returns the axis label of a recorded quantity."""
    return LABELS.get(column, column.replace("_", " "))


def is_fraction(column):
    """Returns True if the quantity lies between 0 and 1."""
    return "accuracy" in column


def clip(interval, column):
    """Returns the interval of a fraction without what lies below 0 or above 1."""
    if interval is None:
        return None
    ends = {name: clip_end(getattr(interval, name), column) for name in ("ci_low", "ci_high")}
    return dataclasses.replace(interval, **ends)


def clip_end(end, column):
    """Returns an end of the interval of a fraction within 0 and 1; an unknown one as it is."""
    if end is None or not math.isfinite(end) or not is_fraction(column):
        return end
    return min(max(end, 0.0), 1.0)


def keep_within(axis, column):
    """Ends the y axis of a fraction at 0 and 1."""
    if is_fraction(column):
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, 0.0), min(high, 1.0))
