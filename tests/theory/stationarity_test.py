"""Tests of keras_svag/theory/equilibrium/stationarity.py, on a toy that is scale invariant."""

import math

import numpy as np
import pytest

from keras_svag.theory import (
    QUANTITIES,
    equilibrium_test,
    equilibrium_weight_norm,
    relative_drift,
    weight_norm_imbalance,
)
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


def noisy_rows(rng, count=12, ell=1.0, trend=0.0, norm=1.0, spread=0.02):
    """Rows around an equilibrium at eta = 0.5 and lambda = 0.01, of 10 to 30 steps each."""
    steps = np.cumsum(rng.integers(10, 31, count))
    level = equilibrium_weight_norm(3.0, 1.0, 0.5, 0.01, ell)
    means = {"weight_norm": norm * level, "gradient_noise": 3.0, "gradient_signal": 1.0}
    factors = {name: 1 + spread * rng.normal(size=count) for name in QUANTITIES}
    factors["gradient_signal"] *= 1 + trend * np.linspace(-0.5, 0.5, count)
    return [
        {"step": int(step), "learning_rate": 0.5}
        | {name: means[name] * factors[name][i] for name in QUANTITIES}
        for i, step in enumerate(steps)
    ]


def measured(rows, ell, level):
    """Intervals of the drifts and of the imbalance."""
    lengths = np.diff([row["step"] for row in rows])
    norm, noise, signal = (np.array([row[name] for row in rows]) for name in QUANTITIES)
    drifts = [relative_drift(column[1:], lengths, level) for column in (norm, noise, signal)]
    return dict(zip(QUANTITIES, drifts)), weight_norm_imbalance(
        norm, noise[1:], signal[1:], lengths, 0.5, 0.01, ell, confidence=level
    )


def decide(loose, strict, tolerance):
    if any(i.ci_low > tolerance or i.ci_high < -tolerance for i in strict):
        return False
    inside = [-tolerance <= i.ci_low and i.ci_high <= tolerance for i in loose]
    return True if all(inside) else None


def test_decisions_are_those_of_the_intervals():
    """Within: all intervals. Outside: one interval of the four, each with a fourth of the error."""
    rng, seen = np.random.default_rng(0), set()
    for trend in np.linspace(-0.4, 0.4, 40):
        ell, tolerance, confidence = rng.choice([1.0, 4.0]), rng.uniform(0.05, 0.3), 0.9
        norm = rng.choice([0.8, 1.0, 1.2])
        rows = noisy_rows(rng, ell=ell, trend=trend, norm=norm, spread=10 ** rng.uniform(-4, -1))
        result = equilibrium_test(rows, 0.01, ell=ell, tolerance=tolerance, confidence=confidence)
        drifts, imbalance = measured(rows, ell, 0.9)
        strict, strict_imbalance = measured(rows, ell, 0.975)
        assert (result.drifts, result.imbalance) == (drifts, imbalance)
        assert result.is_steady is decide(drifts.values(), strict.values(), tolerance)
        assert result.is_balanced is decide([imbalance], [strict_imbalance], tolerance)
        seen.add((result.is_steady, result.is_balanced))
        for interval in (*drifts.values(), imbalance):
            low, mean, high = (100 * x for x in (interval.ci_low, interval.mean, interval.ci_high))
            assert f"{mean:.3g} % ({low:.3g} to {high:.3g} %)" in result.reason
    assert (
        {steady for steady, _ in seen} == {balanced for _, balanced in seen} == {True, False, None}
    )


def test_reasons_name_what_is_undecided():
    rng = np.random.default_rng(1)

    def reason(**options):
        return equilibrium_test(noisy_rows(rng, **options), 0.01, tolerance=0.25).reason

    assert reason(spread=1e-5).endswith("In equilibrium within 25 %.")
    assert "not scale invariant" in reason(spread=1e-5, norm=2.0)
    # 1 / (4 eta lambda) = 50
    assert "Not yet in equilibrium, which takes some 50 steps" in reason(
        count=40, spread=1e-5, trend=1.0
    )
    assert "if the change of weight_norm and the imbalance is within 25 %" in (
        equilibrium_test(
            [
                {**row, "weight_norm": row["weight_norm"] * rng.normal(1, 0.3)}
                for row in noisy_rows(rng, spread=1e-5)
            ],
            0.01,
            tolerance=0.25,
        ).reason
    )
    wide = equilibrium_test(noisy_rows(rng, spread=1e-5, trend=0.25), 0.01, tolerance=0.25)
    assert wide.is_steady is None
    assert "Cannot tell if the change of gradient_signal is within 25 %" in wide.reason


def test_five_rows_of_one_learning_rate():
    rows = noisy_rows(np.random.default_rng(2), count=5, spread=1e-6)
    assert equilibrium_test(rows, 0.01).is_balanced is True
    same = [{**row, "learning_rate": 0.5 * (1 + 5e-7 * i)} for i, row in enumerate(rows[:2])]
    assert equilibrium_test([*same, *rows[2:]], 0.01).is_balanced is True
    other = {**rows[3], "learning_rate": 0.5 * (1 + 5e-6)}
    with pytest.raises(ValueError, match="one learning rate"):
        equilibrium_test([*rows[:3], other, rows[4]], 0.01)
    # The first row only marks the start.
    assert equilibrium_test([{**rows[0], "learning_rate": 0.1}, *rows[1:]], 0.01).is_balanced
    lost = [{**row, "gradient_noise": None} for row in rows]
    assert math.isnan(equilibrium_test(lost, 0.01).drifts["gradient_noise"].mean)
