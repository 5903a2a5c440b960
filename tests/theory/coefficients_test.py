"""Tests of keras_svag/theory/coefficients.py."""

import math

import numpy as np
import pytest

from keras_svag import svag_coefficients, svag_epochs, svag_steps

ELLS = [0.5, 1, 1.5, 2, 7.5, 64, 1e6]


@pytest.mark.parametrize("ell", ELLS)
def test_power_sums(ell):
    # r1 + r2 = 1 keeps the mean, r1^2 + r2^2 = l scales the covariance, and the third cumulant
    # grows as (3 l - 1) / 2. Cancellation leaves a few ulps of r1^3.
    r1, r2 = svag_coefficients(ell)
    assert r1 + r2 == 1.0
    np.testing.assert_allclose(r1**2 + r2**2, ell, rtol=1e-13)
    np.testing.assert_allclose(r1**3 + r2**3, (3 * ell - 1) / 2, rtol=0, atol=1e-15 * r1**3 * 8)


def test_named_cases():
    assert svag_coefficients(1) == (1.0, 0.0)
    assert svag_coefficients(0.5) == (0.5, 0.5)
    assert svag_coefficients(5) == (2.0, -1.0)


@pytest.mark.parametrize(
    "ell", [0.49, 0, -1, math.nan, math.inf, "2", None, True, 1 + 1j], ids=repr
)
def test_wrong_ell(ell):
    with pytest.raises(ValueError, match=r"`ell` must be a finite number >= 0.5.*Received: ell="):
        svag_coefficients(ell)


def test_numpy_numbers_are_numbers():
    assert svag_coefficients(np.float32(5)) == svag_coefficients(np.int64(5)) == (2.0, -1.0)


@pytest.mark.parametrize(
    ("ell", "steps", "epochs"), [(1, 10, 20), (4, 40, 80), (0.5, 5, 10), (1.25, 12, 25)]
)
def test_length_of_a_run(ell, steps, epochs):
    # l times the steps, each of two batches; 12.5 steps round to the even 12, epochs up.
    assert svag_steps(10, ell) == steps
    assert svag_epochs(10, ell) == epochs


def test_wrong_lengths():
    with pytest.raises(
        ValueError, match="`sgd_steps` must be an integer >= 0. Received: sgd_steps=-1"
    ):
        svag_steps(-1, 2)
    with pytest.raises(
        ValueError, match="`sgd_epochs` must be an integer >= 0. Received: sgd_epochs=1.5"
    ):
        svag_epochs(1.5, 2)


def test_runs_longer_than_any_number():
    assert svag_steps(2**64 - 1, 1e280) == round(2.0**64 * 1e280)
    with pytest.raises(ValueError, match="`sgd_steps` times `ell` must be finite. Received: ell="):
        svag_steps(2**64 - 1, 1e300)
    with pytest.raises(ValueError, match="`sgd_epochs` times `ell` must be finite. Received: ell="):
        svag_epochs(2**64 - 1, 1e300)
