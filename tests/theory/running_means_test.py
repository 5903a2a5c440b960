"""Tests of keras_svag/theory/statistics/running_means.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_svag.theory import (
    Interval,
    RunningMeans,
    lsr_max_kappa,
    ratio_of_means,
    sde_condition,
    series_mean,
)
from tests.theory.helpers import METHODS, autoregression, coverage_error, covered


def rows_of(noise, signals, **columns):
    columns = {"gradient_noise": noise, "gradient_signal": signals, **columns}
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), min_size=1, max_size=200),
    st.sampled_from([8, 10, 512]),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_running_mean_is_the_mean_over_steps(pairs, max_blocks, rows_per_block):
    means = RunningMeans(["a"], rows_per_block, max_blocks)
    for value, steps in pairs:
        means.add({"a": value}, steps)
        assert len(means.series("a")[0]) <= max_blocks
    values, steps = zip(*pairs)
    assert means.estimate("a").mean == pytest.approx(np.average(values, weights=steps), abs=1e-9)
    assert means.series("a")[1].sum() == pytest.approx(sum(steps))


def test_blocks_are_merged_in_pairs():
    means = RunningMeans(["a"], max_blocks=8)
    for i in range(21):
        means.add({"a": float(i)})
    # 8 full blocks of one row became 4 of two, then again: blocks of four rows.
    np.testing.assert_array_equal(means.series("a")[0], [1.5, 5.5, 9.5, 13.5, 17.5, 20.0])
    np.testing.assert_array_equal(means.series("a")[1], [4, 4, 4, 4, 4, 1])


@pytest.mark.parametrize(("rows", "blocks"), [(511, 511), (512, 256), (1022, 511), (1024, 256)])
def test_blocks_are_merged_when_there_are_512(rows, blocks):
    means = RunningMeans.from_rows({"a": np.arange(float(rows))}, ["a"])
    assert len(means.series("a")[0]) == blocks
    assert means.estimate("a").mean == pytest.approx((rows - 1) / 2)


def test_blocks_of_epochs_are_merged_when_they_are_full():
    means = RunningMeans(["a"], rows_per_block=3, max_blocks=8)
    for i in range(23):
        means.add({"a": float(i)})
    assert len(means.series("a")[0]) == 8
    means.add({"a": 23.0})
    np.testing.assert_array_equal(means.series("a")[0], [2.5, 8.5, 14.5, 20.5])
    means.add({"a": 30.0}, weight=2.0)
    np.testing.assert_array_equal(means.series("a")[0], [2.5, 8.5, 14.5, 20.5, 30.0])
    np.testing.assert_array_equal(means.series("a")[1], [6, 6, 6, 6, 2])


def test_lost_rows_keep_their_place_in_an_epoch():
    values = [1.0, math.nan, 3.0, math.nan, math.nan, 5.0, 6.0]
    means = RunningMeans.from_rows({"a": values}, ["a"], rows_per_block=2)
    np.testing.assert_array_equal(means.series("a")[0], [1.0, 3.0, 5.0, 6.0])
    pairs = RunningMeans.from_rows({"a": [1.0, 2.0, math.nan, math.nan, 3.0]}, ["a"], 0, 2)
    np.testing.assert_array_equal(pairs.series("a")[0], [1.5, 3.0])
    np.testing.assert_array_equal(pairs.series("a")[1], [2.0, 1.0])


def test_batches_are_long_enough_for_the_slower_quantity():
    rng = np.random.default_rng(3)
    [slow], [fast] = autoregression(rng, 1, 500, 0.8), autoregression(rng, 1, 500, 0.0)
    steps = np.cumsum(rng.integers(1, 5, 500))
    lengths = np.diff(steps, prepend=0)
    means = RunningMeans.from_rows(rows_of(3 + fast, 1 + 0.1 * slow, step=steps))
    time = means.estimate("gradient_signal").correlation_time
    assert means.estimate("gradient_noise").correlation_time < time / 2
    number = int(500 / (10 * time))
    assert 2 < number < 20
    parts = np.array_split(np.arange(500), number)
    expected = [
        [np.average(column[part], weights=lengths[part]) for part in parts]
        for column in (3 + fast, 1 + 0.1 * slow)
    ]
    batches = means.batches("gradient_noise", "gradient_signal")
    np.testing.assert_allclose(batches, expected)
    assert means.ratio(confidence=0.8) == ratio_of_means(*batches, 0.8)
    upside_down = means.ratio("gradient_signal", "gradient_noise")
    assert upside_down == ratio_of_means(*batches[::-1])


def test_methods_of_the_standard_error():
    [values] = autoregression(np.random.default_rng(4), 1, 200, 0.5)
    means = RunningMeans.from_rows({"a": values}, ["a"])
    for method in METHODS:
        assert means.estimate("a", method) == series_mean(values, np.ones(200), method)
    assert means.estimate("a") == means.estimate("a", "autocovariance")


def test_merging_keeps_intervals_honest():
    # 1000 steps in 10 to 19 blocks of 64; 0.015 as above.
    estimates = []
    for values in autoregression(np.random.default_rng(3), 200, 1000, 0.8):
        means = RunningMeans(["a"], max_blocks=20)
        for value in values:
            means.add({"a": value})
        estimates.append(means.estimate("a"))
    assert len(means.series("a")[0]) == 16
    assert abs(covered(estimates, 0.0) - 0.95) < 0.015 + coverage_error(0.95, 200)


def test_rows_count_by_their_steps():
    rows = rows_of([1.0, 2.0, 6.0], [0.0, 0.0, 1.0], step=[10, 20, 50])
    assert RunningMeans.from_rows(rows).estimate("gradient_noise").mean == (10 + 20 + 180) / 50
    later = RunningMeans.from_rows(rows[1:], start=10)
    assert later.estimate("gradient_signal").mean == pytest.approx(30 / 40)
    with pytest.raises(ValueError, match=r"`rows` must be in order.*Received: start=10, steps"):
        RunningMeans.from_rows(rows, start=10)


def test_history_of_fit_is_taken_as_it_is():
    history = {"loss": [1.0, 0.5], "gradient_noise": [2.0, 4.0], "gradient_signal": [1.0, 2.0]}
    means = RunningMeans.from_rows(history)
    assert means.estimate("gradient_noise").mean == 3.0
    assert means.ratio().mean == 2.0


def test_rows_that_are_not_finite_are_left_out_whole():
    rows = rows_of([1.0, None, math.inf, 3.0], [1.0, 5.0, 5.0, math.nan])
    means = RunningMeans.from_rows(rows)
    assert means.estimate("gradient_noise").mean == 1.0
    assert means.estimate("gradient_signal").mean == 1.0
    means.add({"gradient_noise": 2.0})  # no signal
    assert len(means.series("gradient_noise")[0]) == 1


def test_running_means_refuse_bad_input():
    means = RunningMeans()
    with pytest.raises(ValueError, match="`weight` must be a number > 0. Received: weight=0"):
        means.add({"gradient_noise": 1.0, "gradient_signal": 1.0}, 0)
    with pytest.raises(ValueError, match="`name` must be one of.*Received: name='noise'"):
        means.estimate("noise")
    with pytest.raises(ValueError, match="`max_blocks` must be even"):
        RunningMeans(max_blocks=9)
    assert math.isnan(means.estimate("gradient_noise").mean)
    nothing = means.ratio()
    assert math.isnan(nothing.mean) and (nothing.ci_low, nothing.ci_high) == (-math.inf, math.inf)
    assert [len(batch) for batch in means.batches("gradient_noise")] == [0]
    means.add({"gradient_noise": 2.0, "gradient_signal": 1.0})
    assert means.ratio() == Interval(2.0, -math.inf, math.inf)
    with pytest.raises(ValueError, match="`rows` must be in order"):
        RunningMeans.from_rows(rows_of([1.0, 1.0], [1.0, 1.0], step=[5, 5]))


def test_blocks_of_whole_epochs_cover():
    # The three steps of an epoch share a component (what its examples have in common) that is
    # another one in the next epoch: whole epochs are independent. 0.015 as above.
    rng = np.random.default_rng(9)
    estimates = []
    for _ in range(400):
        steps = rng.normal(size=(40, 1)) + 0.1 * rng.normal(size=(40, 3))
        means = RunningMeans(["a"], rows_per_block=3)
        for value in steps.ravel():
            means.add({"a": value})
        np.testing.assert_allclose(means.series("a")[0], steps.mean(axis=1))
        estimates.append(means.estimate("a"))
    assert abs(covered(estimates, 0.0) - 0.95) < 0.015 + coverage_error(0.95, 400)


def test_ratio_of_correlated_means_covers():
    # N = 3 + u, G = 1 + 0.5 u + 0.5 v with AR(1) u and v; N/G = 3. In 3000 simulations the
    # coverage was 0.939.
    rng = np.random.default_rng(4)
    hits = 0
    for u, v in zip(autoregression(rng, 200, 500, 0.8), autoregression(rng, 200, 500, 0.8)):
        interval = RunningMeans.from_rows(rows_of(3 + u, 1 + 0.5 * u + 0.5 * v)).ratio()
        hits += interval.ci_low <= 3.0 <= interval.ci_high
    assert abs(hits / 200 - 0.95) < 0.015 + coverage_error(0.95, 200)


def test_batches_of_one_long_run_serve_the_conditions():
    rng = np.random.default_rng(8)
    [u] = autoregression(rng, 1, 5000, 0.8)
    means = RunningMeans.from_rows(rows_of(3 + 0.1 * u, 1 + 0.05 * u))
    noise, signals = means.batches("gradient_noise", "gradient_signal")
    assert 2 <= len(noise) == len(signals) <= 20
    assert sde_condition(noise, signals).holds is True
    bound = lsr_max_kappa(noise, signals)
    assert bound.ci_low < 2 + 3 < bound.ci_high
    assert sde_condition(noise, signals).noise_to_signal == means.ratio()
