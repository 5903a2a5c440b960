"""Tests of keras_svag/theory/equilibrium.py; see tests/study/equilibrium_test.py for whole runs."""

import math

import numpy as np
import pytest

from keras_svag.theory import QUANTITIES, Interval, identity_ratio, relaxation_steps, shows_no_drift


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_relaxation_is_that_of_the_weights_under_decay_alone(ell):
    # x <- (1 - eta lambda / ell) x, so R falls by e^-3 three times over; the rest is O(eta lambda).
    eta, decay = 0.2, 5e-3
    steps = relaxation_steps(eta, decay, ell)
    assert steps == pytest.approx(1500 * ell)
    assert (1 - eta * decay / ell) ** (2 * steps) == pytest.approx(math.exp(-3), rel=2e-3)


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_identity_ratio_of_the_fixed_point(ell):
    # R' = (1 - h lambda)^2 R + h^2 (G + l N) with h = eta/l stays at R; taken from 0 by iteration.
    eta, decay, noise, signal = 0.4, 0.05, 3.0, 0.7
    norm, step = 0.0, eta / ell
    for _ in range(20_000):
        norm = (1 - step * decay) ** 2 * norm + step**2 * (signal + ell * noise)
    row = {"learning_rate": eta, "gradient_noise": noise, "gradient_signal": signal}
    rows = [{"step": i, "weight_norm": 2 * norm, **row} for i in (5, 10, 20)]
    assert identity_ratio(rows, decay, ell) == pytest.approx(2.0, rel=1e-9)


def test_drift_of_what():
    steady, noisy, drifting = Interval(0.05, 0.0, 0.09), Interval(0.3, -0.2, 0.8), 0.2

    def drifts(**changes):
        given = dict.fromkeys(QUANTITIES, steady) | changes
        return shows_no_drift(given)

    assert drifts() and drifts(gradient_noise=noisy, gradient_signal=noisy)
    assert not drifts(weight_norm=noisy)  # R is smooth: its mean counts
    assert not drifts(gradient_noise=Interval(drifting, 0.11, 0.3))
    assert not drifts(gradient_signal=Interval(-drifting, -0.3, -0.11))
    assert not drifts(weight_norm=Interval(np.nan, -np.inf, np.inf))  # too short to tell
