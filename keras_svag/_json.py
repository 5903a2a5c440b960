"""Conversion of Python and NumPy values to JSON."""

import math

import numpy as np


def to_json(value):
    """Converts tuples, NumPy scalars and objects with `to_json`; NaN and infinity become `None`."""
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
