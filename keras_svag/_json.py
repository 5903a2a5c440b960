"""What JSON can hold, of what there is in Python and NumPy."""

import math

import numpy as np


def to_json(value):
    """Turns NumPy numbers, tuples and dataclasses' dicts into what JSON can hold."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
