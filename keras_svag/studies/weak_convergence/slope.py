"""The slope of errors on logarithmic axes."""

import math

import numpy as np
from scipy import stats

from keras_svag.theory import Interval


def fit_slope(ells, errors, standard_errors=None):
    """Slope of log |error| against log l, weighted by the errors' precision.

    Args:
        ells: array of amplifications.
        errors: array of weak errors, none of them 0.
        standard_errors: array of their standard errors, or `None` for exact errors.

    Returns:
        A `Interval`, 95 %, by error propagation (the errors at different l are taken as
        independent).

    Example:

    >>> round(fit_slope(np.array([1.0, 2.0, 4.0]), np.array([0.4, 0.2, 0.1])).mean, 6)
    -1.0
    """
    x, y = np.log(ells), np.log(np.abs(errors))
    if standard_errors is None:
        weights = np.ones(len(x))
    else:
        weights = (np.abs(errors) / standard_errors) ** 2
    centred = x - np.average(x, weights=weights)
    total = np.sum(weights * centred**2)
    slope = float(np.sum(weights * centred * y) / total)
    half = 0.0 if standard_errors is None else stats.norm.ppf(0.975) / math.sqrt(total)
    return Interval(slope, slope - half, slope + half)
