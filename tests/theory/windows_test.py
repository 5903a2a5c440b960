"""Tests of keras_svag/theory/equilibrium/measurement.py, on R whose equilibrium is known."""

import math

import numpy as np
import pytest

from keras_svag.theory import QUANTITIES
from keras_svag.theory.equilibrium.measurement import (
    lengths_inside,
    mean_rows,
    measure_window,
    window_means,
)
from keras_svag.theory.equilibrium.relaxation import RELAXATION_TIMES, constant_rate_segment
from keras_svag.theory.equilibrium.window import identity_ratio

ETA, DECAY = 0.2, 5e-3
TOTAL, RECORDS = 6000, 60
WINDOW = [0.4, 0.8]


def trajectory(noise=2.0, signal=0.5, start=250.0, eta=ETA, drop=4800, trend=0.0, push=0.0):
    """Records of a run whose mean is exact: one step of R after the other, as SGD takes them.

    `R' = (1 - eta lambda)^2 R + eta^2 (G + N) + push`; N and G grow by the fraction `trend` over
    the run; `push` is what a loss that is not scale invariant adds.
    """
    rows, norm = [], start
    sums = np.zeros(2)
    for step in range(1, TOTAL + 1):
        rate = eta if step <= drop else eta / 10
        grown = np.array([noise, signal]) * (1 + trend * step / TOTAL)
        norm = (1 - rate * DECAY) ** 2 * norm + rate**2 * grown.sum() + push
        sums += grown
        if step % (TOTAL // RECORDS) == 0:
            n, g = sums / (TOTAL // RECORDS)
            rows.append(
                {
                    "step": step,
                    "effective_step": step,
                    "learning_rate": rate,
                    "weight_norm": norm,
                    "gradient_noise": n,
                    "gradient_signal": g,
                }
            )
            sums[:] = 0
    return rows


def measure(histories, window=WINDOW, weight_decay=DECAY, mode="auto"):
    return measure_window(histories, TOTAL, window, weight_decay, mode)


def test_starts_where_drift_ends_and_stops_where_the_learning_rate_drops():
    rows = trajectory()
    window = measure([rows])
    assert window.reached is True and window.is_balanced is True
    start, stop = window.fractions
    assert stop == 4800 / TOTAL
    # By hand: R falls to R_eq = eta (G + N) / (2 lambda - eta lambda^2) = 50.03 as
    # R_eq + (250 - R_eq) (1 - eta lambda)^(2 t). The line through the rest of the segment changes
    # by no more than a tenth of its mean from the first record on at which this is so.
    limit = ETA * 2.5 / (2 * DECAY - ETA * DECAY**2)
    times = np.array([row["step"] for row in rows if row["step"] <= 4800])
    norms = limit + (250 - limit) * (1 - ETA * DECAY) ** (2 * times)
    np.testing.assert_allclose([row["weight_norm"] for row in rows[:48]], norms)

    def change(first):
        # Of the records after `first`, in units of record lengths.
        values = norms[first + 1 :]
        slope = np.polyfit(np.arange(len(values)), values, 1)[0]
        return abs(slope * len(values) / values.mean())

    passing = [i for i in range(36) if times[i] >= 1500 and change(i) <= 0.1]
    assert start == times[passing[0]] / TOTAL
    assert change(passing[0] - 1) > 0.1


def test_not_before_three_relaxation_times():
    # Started at its equilibrium R never drifts; 1/(2 eta lambda) = 500 steps all the same.
    limit = ETA * 2.5 / (2 * DECAY - ETA * DECAY**2)
    window = measure([trajectory(start=limit)])
    assert window.fractions == (RELAXATION_TIMES * 500 / TOTAL, 0.8) and window.reached is True


def test_seeds_are_averaged():
    high, low = trajectory(noise=3.0, start=100.0), trajectory(noise=1.0, start=60.0)
    rows = mean_rows([high, low])
    for a, b, mean in zip(high, low, rows):
        assert mean["weight_norm"] == pytest.approx((a["weight_norm"] + b["weight_norm"]) / 2)
        assert mean["gradient_noise"] == pytest.approx(2.0) and mean["step"] == a["step"]
    # R is linear in N and in its start: means obey the same recursion.
    middle = trajectory(noise=2.0, start=80.0)
    assert measure([high, low]).fractions == (measure([middle]).fractions)


@pytest.mark.parametrize(
    ("rows", "changes", "reached"),
    [
        # eta lambda 100 times smaller: R has hardly moved when the learning rate drops. It falls by
        # a few per cent only, but the identity is broken: a drift test alone would let it pass.
        (trajectory(eta=ETA / 100), {}, False),
        # N and G go on growing, threefold over the run, and R with them.
        (trajectory(trend=2.0), {}, False),
        # No decay, no equilibrium; nor anything to test.
        (trajectory(), {"weight_decay": 0.0}, None),
    ],
    ids=["slow", "trend", "no weight decay"],
)
def test_falls_back_on_the_window_of_the_config(rows, changes, reached):
    window = measure([rows], **changes)
    assert window.fractions == tuple(WINDOW) and window.reached is reached
    assert window.reason


def test_identity_is_not_asked_of_a_loss_that_is_not_scale_invariant():
    # A push of a third of what the gradients add: R is steady at 4/3 of what the identity says.
    push = ETA**2 * 2.5 / 3
    window = measure([trajectory(push=push)])
    assert window.reached is True and window.is_balanced is False
    assert window.imbalance.mean == pytest.approx(1 / 3, rel=0.01)
    # Before three relaxation times there is no telling.
    early = measure([trajectory(push=push, start=66.7)], [0.2, 0.4], mode="config")
    assert early.reached is False
    rows = [row for row in trajectory(push=push) if 3000 <= row["step"] <= 4800]
    assert identity_ratio(rows, DECAY) == pytest.approx(4 / 3, rel=0.01)


def test_window_of_the_config_is_taken_as_it_is_and_tested():
    rows = trajectory()
    window = measure([rows], mode="config")
    assert window.fractions == (0.4, 0.8) and window.reached is True
    early = measure([rows], [0.0, 0.3], mode="config")
    assert early.fractions == (0.0, 0.3) and early.reached is False
    assert (early.start, early.rows[0]["step"], early.stop) == (100, 200, 1800)
    # Over a change of the learning rate there is no one equilibrium.
    across = measure([rows], [0.5, 1.0], mode="config")
    assert across.reached is None and "learning rate changes" in across.reason
    # Without weight decay there is none to test, and all that is asked is if something drifts.
    without = measure([rows], [0.5, 1.0], weight_decay=0.0, mode="config")
    assert set(without.drifts) == set(QUANTITIES) and "was not tested" in without.reason


@pytest.mark.parametrize("changed_at", [0, 1000, 2000])
def test_relaxation_counts_from_the_last_change_of_the_learning_rate(changed_at):
    # R is steady at 4/3 of its identity, so that nothing but the time of relaxation decides: at
    # eta = 0.2 and lambda = 0.005 three relaxation times are 1500 steps.
    norm = 4 / 3 * ETA * 2.5 / (2 * DECAY - ETA * DECAY**2)
    row = {"weight_norm": norm, "gradient_noise": 2.0, "gradient_signal": 0.5}
    rows = [
        {
            "step": step,
            "effective_step": step,
            "learning_rate": ETA if step > changed_at else ETA / 2,
            **row,
        }
        for step in range(100, TOTAL + 1, 100)
    ]
    for start in (1000, 1400, 1500, 2400, 2500, 3400, 3500):
        if start < changed_at:
            continue
        window = measure([rows], [start / TOTAL, 0.8], mode="config")
        assert (window.start, window.rows[0]["step"], window.stop) == (start, start + 100, 4800)
        assert window.is_balanced is False and window.imbalance.mean == pytest.approx(1 / 3)
        assert window.reached is (start >= changed_at + 1500)


def test_window_of_the_last_record():
    window = measure([trajectory()], [5900 / TOTAL, 1.0], mode="config")
    assert (window.start, window.stop, window.reached) == (5900, 6000, None)
    assert "at least 5 rows" in window.reason
    only = measure([[{**trajectory()[0], "step": TOTAL, "effective_step": TOTAL}]], [0.0, 1.0])
    assert (only.start, only.stop, only.reached) == (TOTAL, TOTAL, None)


def test_nothing_finished():
    window = measure([])
    assert window.fractions == tuple(WINDOW) and window.reached is None
    assert window.is_balanced is None and window.imbalance is None
    assert (window.start, window.stop, window.rows, window.drifts) == (0, 0, [], {})
    assert window.reason == "No run finished."


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match="`mode` must be one of 'auto', 'config'. Received"):
        measure([trajectory()], mode="given")


def test_missing_values_are_left_out():
    # JSON has null for what is not finite.
    rows = trajectory()
    expected = measure([rows])
    rows[40] = {**rows[40], "gradient_signal": None}
    assert math.isnan(mean_rows([rows])[40]["gradient_signal"])
    window = measure([rows])
    assert window.fractions == expected.fractions and window.reached is True


@pytest.mark.parametrize(
    ("rates", "segment"),
    [
        ([0.1], (0, 1)),
        ([0.1, 0.1, 0.01], (0, 2)),
        ([0.0, 0.05, 0.1, 0.1, 0.1, 0.01, 0.01], (2, 5)),  # warm-up before, decay after
        ([0.3, 0.2, 0.1], (0, 1)),
        ([0.1, 0.1 * (1 + 1e-8), 0.05], (0, 2)),  # rounding is no change
    ],
)
def test_segment_of_one_learning_rate(rates, segment):
    assert constant_rate_segment([{"learning_rate": rate} for rate in rates]) == segment


# Means over a window.


def rows_with_means(per_step, ends):
    """Rows whose `gradient_noise` is the mean of `per_step` since the row before."""
    starts = [0, *ends[:-1]]
    return [
        {
            "step": end,
            "effective_step": end,
            "time": 0.0,
            "noise_to_signal": None,
            "gradient_noise": float(np.mean(per_step[start:end])),
            "weight_norm": float(end),
        }
        for start, end in zip(starts, ends)
    ]


@pytest.mark.parametrize("spacing", [1, 2, 4, 5], ids=str)
def test_window_mean_is_that_over_its_steps(spacing):
    # 40 % to 80 % of 100 effective steps: steps 40 to 79, whatever the rows.
    per_step = np.random.default_rng(0).normal(size=100)
    rows = rows_with_means(per_step, list(range(spacing, 101, spacing)))
    means = window_means(rows, 100, (0.4, 0.8))
    # At most one step more at each end where rows are that short.
    candidates = [per_step[a:b].mean() for a in (39, 40) for b in (80, 81)]
    assert min(abs(means["gradient_noise"] - c) for c in candidates) < 1e-12
    assert set(means) == {"gradient_noise", "weight_norm"}


def test_rows_of_unequal_length_count_by_their_length():
    per_step = np.random.default_rng(1).normal(size=100)
    rows = rows_with_means(per_step, [13, 40, 47, 52, 80, 100])
    got = window_means(rows, 100, (0.4, 0.8))["gradient_noise"]
    assert got == pytest.approx(per_step[40:80].mean(), rel=1e-12)


def test_whole_run_and_no_record():
    per_step = np.arange(10.0)
    rows = rows_with_means(per_step, [5, 10])
    assert window_means(rows, 10, (0.0, 1.0))["gradient_noise"] == pytest.approx(4.5)
    assert window_means(rows, 10, (0.45, 0.55)) == {}


def test_missing_value_is_not_passed_over():
    rows = rows_with_means(np.ones(10), [5, 10])
    rows[0]["gradient_noise"] = None
    assert math.isnan(window_means(rows, 10, (0.0, 1.0))["gradient_noise"])


def test_window_between_two_steps_has_the_records_that_it_touches():
    lengths = lengths_inside(range(1, 11), 10, (0.47, 0.53))
    assert [i for i, length in enumerate(lengths, 1) if length] == [5, 6]


def test_window_that_ends_on_a_step_ends_there():
    # k/total times total is not k in floating point for many k; whatever the rounding, a window
    # from step a to step b has the records between them, no more and no fewer.
    for total in (7, 49, 84, 3593):
        points = list(range(1, total + 1))
        for a in range(0, total - 1, max(1, total // 97)):
            b = min(a + 3, total)
            lengths = lengths_inside(points, total, (a / total, b / total))
            assert [i for i, length in enumerate(lengths, 1) if length] == points[a:b]
