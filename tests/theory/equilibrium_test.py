"""Tests of keras_svag/theory/equilibrium/window.py; see windows_test.py for whole runs."""

import math

import numpy as np
import pytest

from keras_svag.theory import QUANTITIES, Interval, find_window, relaxation_steps
from keras_svag.theory.equilibrium.window import has_no_drift, identity_ratio


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
        return has_no_drift(given)

    assert drifts() and drifts(gradient_noise=noisy, gradient_signal=noisy)
    assert not drifts(weight_norm=noisy)  # R is smooth: its mean counts
    assert not drifts(gradient_noise=Interval(drifting, 0.11, 0.3))
    assert not drifts(gradient_signal=Interval(-drifting, -0.3, -0.11))
    assert not drifts(weight_norm=Interval(np.nan, -np.inf, np.inf))  # too short to tell


def fixed_point(count=40, **columns):
    """Rows in equilibrium, R as its identity has it at eta = 0.5, lambda = 0.01, ell = 1."""
    row = {"learning_rate": 0.5, "weight_norm": 0.5 * 4 / 0.01995, "gradient_noise": 3.0}
    row |= {"gradient_signal": 1.0, **columns}
    return [{"step": 25 * i, **row} for i in range(1, count + 1)]


def test_window_begins_after_three_relaxation_times():
    window = find_window(fixed_point(), weight_decay=0.01)
    assert (window.start, window.stop, window.reached, window.is_balanced) == (
        300,
        1000,
        True,
        True,
    )
    assert [window.rows[0]["step"], window.rows[-1]["step"]] == [325, 1000]
    assert window.imbalance.mean == pytest.approx(0.0, abs=1e-9)


def test_identity_is_only_asked_where_there_is_one():
    # R is steady at 5 times what N and G keep up: decay takes 5 times what the gradients add.
    rows = fixed_point(weight_norm=5 * 0.5 * 4 / 0.01995)
    with_identity, without = (find_window(rows, 0.01, has_identity=b) for b in (True, False))
    assert with_identity.is_balanced is False and with_identity.imbalance.mean == pytest.approx(4.0)
    assert without.is_balanced is None and without.imbalance is None
    assert without.reached is True and set(without.drifts) == set(QUANTITIES)


def test_starts_that_are_tried():
    # R falls until step 600: a start every 25 steps finds that, a first and a last start do not.
    rows = fixed_point(80)
    for row in rows:
        row["weight_norm"] *= max(1.0, 4.0 - row["step"] / 200)
    every = find_window(rows, 0.01, has_identity=False)
    two = find_window(rows, 0.01, has_identity=False, max_starts=2)
    assert every.reached and two.reached and every.start < two.start
    # The last start leaves a quarter of the run.
    assert two.start == 1500


def test_window_without_weight_decay_waits_for_nothing():
    window = find_window(fixed_point(), weight_decay=0.0)
    assert window.reached is None and window.start == 25 and window.imbalance is None


@pytest.mark.parametrize("name", QUANTITIES)
def test_values_that_are_lost_are_not_equilibrium(name):
    window = find_window(fixed_point(**{name: np.nan}), 0.01)
    assert window.reached is False and window.reason


def test_learning_rate_of_zero_cannot_be_told():
    window = find_window(fixed_point(learning_rate=0.0), 0.01)
    assert window.reached is None and window.stop == 1000
