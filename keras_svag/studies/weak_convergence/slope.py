"""The slope of errors on logarithmic axes."""

import math

import numpy as np
from scipy import stats

from keras_svag.theory import Interval


def fit_slope(ells, errors, standard_errors=None):
    """Fits log |error| against log ell, weighted by precision; returns the slope's `Interval`."""
    x, y = np.log(ells), np.log(np.abs(errors))
    weights = np.ones(len(x))
    if standard_errors is not None:
        # Error propagation, as if errors at different ell were independent.
        weights = (np.abs(errors) / standard_errors) ** 2
    centered = x - np.average(x, weights=weights)
    total = np.sum(weights * centered**2)
    slope = float(np.sum(weights * centered * y) / total)
    half = 0.0 if standard_errors is None else stats.norm.ppf(0.975) / math.sqrt(total)
    return Interval(slope, slope - half, slope + half)
