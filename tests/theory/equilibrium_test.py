"""Tests of keras_svag/theory/equilibrium/window.py; see windows_test.py for whole runs."""

import math

import numpy as np
import pytest

from keras_svag.theory import (
    QUANTITIES,
    Interval,
    equilibrium_weight_norm,
    find_window,
    relative_drift,
    relaxation_steps,
)
from keras_svag.theory.equilibrium.relaxation import candidate_starts
from keras_svag.theory.equilibrium.window import has_no_drift, identity_ratio


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_relaxation_is_that_of_the_weights_under_decay_alone(ell):
    # x <- (1 - eta lambda / ell) x, so R falls by e^-3 three times over; the rest is O(eta lambda).
    eta, decay = 0.2, 5e-3
    steps = relaxation_steps(eta, decay, ell)
    assert steps == pytest.approx(1500 * ell)
    assert relaxation_steps(eta, decay) == pytest.approx(1500)
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


def test_drifts_count_rows_by_their_length():
    rng = np.random.default_rng(5)
    rows = fixed_point()
    for row, step in zip(rows, np.cumsum(rng.integers(5, 50, 40))):
        row |= {"step": int(step), "gradient_noise": 3.0 + 0.01 * rng.normal()}
    window = find_window(rows, 0.0)
    lengths = np.diff([row["step"] for row in rows])
    noise = [row["gradient_noise"] for row in rows[1:]]
    assert window.drifts["gradient_noise"] == relative_drift(noise, lengths)


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


def test_relaxation_counts_from_where_the_learning_rate_begins():
    rows = [{**row, "learning_rate": 0.25} for row in fixed_point(10)] + fixed_point(80)[10:]
    window = find_window(rows, weight_decay=0.01)
    assert (window.start, window.stop, window.reached) == (250 + 300, 2000, True)
    assert candidate_starts(rows, 10, 80, 300.0) == list(range(21, 63))  # 70 // 4 rows are left
    assert candidate_starts(rows, 0, 10, 0.0) == [0, 1]  # 8 rows are left
    assert candidate_starts(rows, 10, 80, 1e4) == []


def test_window_as_fractions_of_the_run():
    rows = [{**row, "effective_step": row["step"] / 2} for row in fixed_point()]
    assert find_window(rows, 0.01, total=1000).fractions == (0.15, 0.5)
    assert find_window(rows, 0.01).fractions is None


@pytest.mark.parametrize(("decay", "start"), [(0.01, 650), (3 / 700, 750)], ids=str)
def test_window_where_there_is_no_equilibrium(decay, start):
    # The middle of what may be one (300 to 1000), but a quarter of the run has to follow.
    rows = fixed_point()
    for i, row in enumerate(rows):
        row["gradient_noise"] *= 1 + i
    window = find_window(rows, decay)
    assert (window.start, window.stop, window.reached) == (start, 1000, False)


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (1, "Too few records to test for equilibrium: 1."),
        (8, "Too few records to test for equilibrium: 8."),
        (9, "R takes some 300 steps at this learning rate (3 / (2 eta lambda))"),
        (19, "So far: 475 steps."),
    ],
)
def test_runs_that_are_too_short(count, reason):
    window = find_window(fixed_point(count), 0.01)
    assert window.reached is False and reason in window.reason
    assert window.is_balanced is None and window.imbalance is None and window.drifts == {}
    # The second half.
    assert (window.start, window.stop) == (25 * (count // 2), 25 * count)
    assert [row["step"] for row in window.rows] == [
        25 * i for i in range(count // 2 + 1, count + 1)
    ]


def test_too_short_at_the_last_learning_rate():
    rows = [{**row, "learning_rate": 0.25} for row in fixed_point(10)] + fixed_point(29)[10:]
    window = find_window(rows, 0.01)
    assert "So far: 475 steps." in window.reason
    assert (window.start, window.stop) == (475, 725)
    few = [{**row, "learning_rate": 0.25} for row in fixed_point(2)] + fixed_point(8)[2:]
    assert "Too few records to test for equilibrium: 6." in find_window(few, 0.01).reason


@pytest.mark.parametrize(
    ("count", "reason"), [(16, "Too few records"), (17, "never stays the same for long")]
)
def test_learning_rates_that_always_change(count, reason):
    rows = [{**row, "learning_rate": 0.5 / row["step"]} for row in fixed_point(count)]
    window = find_window(rows, 0.01)
    assert window.reached is False and reason in window.reason
    assert len(window.rows) == (1 if count == 16 else 9)


def test_nine_records_without_weight_decay_are_enough():
    window = find_window(fixed_point(9), 0.0)
    assert (window.start, window.stop, window.reached) == (25, 225, None)
    assert set(window.drifts) == set(QUANTITIES)


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_reasons_have_the_figures_of_the_window(ell):
    norm = equilibrium_weight_norm(3.0, 1.0, 0.5, 0.01, ell)
    rng = np.random.default_rng(0)
    rows = fixed_point(200, weight_norm=1.04 * norm)
    for row in rows:
        for name in QUANTITIES:
            row[name] *= rng.normal(1, 0.002)
    window = find_window(rows, 0.01, ell)
    changes = [f"{100 * window.drifts[name].mean:.2g} %" for name in QUANTITIES]
    said = "Steady: R changes by {}, N by {}, G by {}; ".format(*changes)
    assert window.reached is True
    assert (
        window.reason
        == (
            f"{said}imbalance of R {100 * window.imbalance.mean:.2g} %; "
            f"R is {identity_ratio(window.rows, 0.01, ell):.3g} times that of the identity."
        )
        and "is 1.04 times" in window.reason
    )
    without = find_window(rows, 0.01, ell, has_identity=False)
    assert without.reason.startswith("Steady") and "was not tested." in without.reason
    broken = find_window(
        [{**row, "weight_norm": 3 * row["weight_norm"]} for row in rows], 0.01, ell
    )
    assert broken.reason.startswith("Steady: R changes by ")
    assert "R is not that of the identity" in broken.reason
    drifting = [{**row, "gradient_noise": 3.0 * i} for i, row in enumerate(rows)]
    assert find_window(drifting, 0.01, ell).reason.startswith("Not steady: R changes by ")


def test_learning_rate_of_zero_cannot_be_told():
    window = find_window(fixed_point(learning_rate=0.0), 0.01)
    assert window.reached is None and window.stop == 1000
    assert window.reason == "Equilibrium could not be tested: the learning rate is 0."
