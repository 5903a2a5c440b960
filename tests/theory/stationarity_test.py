"""Tests of keras_svag/theory/equilibrium/stationarity.py, on a toy that is scale invariant."""

import numpy as np
import pytest

from keras_svag.theory import equilibrium_test, equilibrium_weight_norm, weight_norm_imbalance
from tests.theory.scale_invariant_toy import DECAY, ETA, records_of, simulate


def test_drift_and_broken_scale_invariance_are_told_apart():
    # Tolerance 0.5 where "within" is to be shown: G is known to some 20 %.
    options = {"ell": 2, "chains": 4, "batch_size": 16}
    steady, long = simulate(**options, time=1600.0)
    falling, fast = simulate(**options, start=6.0, time=12.0)
    broken, every = simulate(**options, spring=0.1, time=400.0)
    for chain in range(4):
        rest = equilibrium_test(records_of(steady, long, chain), DECAY, ell=2, tolerance=0.5)
        assert rest.in_equilibrium is True and "In equilibrium within 50 %" in rest.reason
        start = equilibrium_test(records_of(falling, fast, chain), DECAY, ell=2)
        assert start.is_steady is False and start.is_balanced is not False
        assert start.drifts["weight_norm"].ci_high < -1
        assert "Not yet in equilibrium" in start.reason
        assert f"{2 / (4 * ETA * DECAY):.3g} steps" in start.reason
        other = equilibrium_test(records_of(broken, every, chain), DECAY, ell=2)
        assert other.is_balanced is False and other.is_steady is not False
        assert other.in_equilibrium is False and "not scale invariant" in other.reason


def test_short_test_is_undecided():
    columns, every = simulate(1, chains=1, time=6.0, records=5)
    result = equilibrium_test(records_of(columns, every, 0), DECAY)
    assert result.in_equilibrium is None
    assert "Cannot tell if the change of weight_norm" in result.reason


def test_equilibrium_refuses_bad_input(equilibria):
    columns, every = equilibria[1]
    rows = records_of(columns, every, 0)
    with pytest.raises(ValueError, match="at least 5 rows. Received: 4 rows"):
        equilibrium_test(rows[:4], DECAY)
    with pytest.raises(ValueError, match="`weight_decay` must be a number > 0. Received"):
        equilibrium_test(rows, 0.0)
    rows[9]["learning_rate"] = ETA / 10
    with pytest.raises(ValueError, match="`rows` must have one learning rate.*0.03 to 0.3"):
        equilibrium_test(rows, DECAY)
    assert equilibrium_test(rows, DECAY, learning_rate=ETA).imbalance.ci_low < 0
    with pytest.raises(ValueError, match="`noise` must be a number or one for each of the 2"):
        weight_norm_imbalance([1.0, 1.0, 1.0], [1.0], 1.0, 1, 0.1, 0.1)
    with pytest.raises(ValueError, match="`learning_rate` must be positive and .*Received"):
        weight_norm_imbalance([1.0, 1.0, 1.0], 1.0, 1.0, 1, 2.0, 0.5)
    for bad in ({"learning_rate": 0.0}, {"weight_decay": -1.0}, {"ell": 0.1}):
        arguments = {"learning_rate": 0.1, "weight_decay": 0.1, **bad}
        with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be"):
            equilibrium_weight_norm(1.0, 1.0, **arguments)


def test_no_weight_decay_needs_no_limit():
    # 3 steps of gain 0.01 (1 + 2 * 4) = 0.09 each.
    balance = weight_norm_imbalance([1.0, 1.27, 1.54], 4.0, 1.0, 3, 0.2, 0.0, ell=2)
    np.testing.assert_allclose([balance.mean, balance.ci_high], 0.0, atol=1e-12)
