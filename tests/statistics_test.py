"""Tests of keras_svag/statistics.py: by enumeration, AR(1) processes, and toys solved exactly."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from keras_svag.coefficients import svag_coefficients
from keras_svag.statistics import (
    RunningMeans,
    correct_noise,
    correct_signal,
    equilibrium_test,
    equilibrium_weight_norm,
    noise_and_signal_for_scaling,
    relative_drift,
    series_mean,
    weight_norm_imbalance,
    with_weight_decay,
    yaida_ratio,
)
from keras_svag.validity import lsr_max_kappa, sde_condition

METHODS = ("autocovariance", "batch_means")


def coverage_error(level, count):
    """Four standard errors of a coverage estimated from `count` simulations."""
    return 4 * math.sqrt(level * (1 - level) / count)


# Sampling, by enumeration of everything that can be drawn.


def all_pairs(mode, n, size):
    """Every pair of halves that the mode can draw, all of them equally likely."""
    if mode == "with_replacement":
        halves = list(itertools.product(range(n), repeat=size))
        return list(itertools.product(halves, repeat=2))
    halves = list(itertools.combinations(range(n), size))
    pairs = itertools.product(halves, repeat=2)
    if mode == "without_replacement":
        return list(pairs)
    return [(a, b) for a, b in pairs if not set(a) & set(b)]


@pytest.fixture(params=["with_replacement", "without_replacement", "shuffled_epochs"])
def enumerated(request):
    """Mode, gradients of five examples, and the gradients of both halves of every pair."""
    gradients = np.random.default_rng(3).normal(0.5, 1.0, (5, 3))
    pairs = all_pairs(request.param, n=5, size=2)
    halves = [np.array([gradients[list(pair[i])].mean(axis=0) for pair in pairs]) for i in (0, 1)]
    return request.param, gradients, *halves


def raw_means(g1, g2):
    """Means of what a step logs as N and G."""
    return np.mean(np.sum((g1 - g2) ** 2, axis=1)) / 2, np.mean(np.sum(g1 * g2, axis=1))


def test_corrections_give_the_true_signal_and_noise_with_replacement(enumerated):
    mode, gradients, g1, g2 = enumerated
    noise, raw_signal = raw_means(g1, g2)
    full = gradients.mean(axis=0)
    corrected = correct_signal(raw_signal, noise, 2, 5, mode)
    np.testing.assert_allclose(corrected, full @ full, rtol=1e-12)
    trace = np.mean(np.sum((gradients - full) ** 2, axis=1))
    np.testing.assert_allclose(correct_noise(noise, 2, 5, mode), trace / 2, rtol=1e-12)


def test_what_the_raw_noise_is_in_each_mode(enumerated):
    mode, gradients, g1, g2 = enumerated
    spread = gradients.var(axis=0, ddof=1).sum()  # S^2
    expected = {
        "with_replacement": (1 - 1 / 5) * spread / 2,
        "without_replacement": (1 - 2 / 5) * spread / 2,
        "shuffled_epochs": spread / 2,
    }
    np.testing.assert_allclose(raw_means(g1, g2)[0], expected[mode], rtol=1e-12)


@pytest.mark.parametrize("ell", [0.5, 1, 2, 7.3])
def test_square_of_the_amplified_gradient_takes_raw_noise_and_signal(enumerated, ell):
    # Whatever the mode: the equilibrium identity needs no correction.
    _, _, g1, g2 = enumerated
    r1, r2 = svag_coefficients(ell)
    noise, raw_signal = raw_means(g1, g2)
    square = np.mean(np.sum((r1 * g1 + r2 * g2) ** 2, axis=1))
    np.testing.assert_allclose(square, raw_signal + ell * noise, rtol=1e-12)


def test_inputs_of_the_bound_tell_the_square_of_the_gradient_at_any_batch_size(enumerated):
    # Measured at B = 2: G + N, and at kappa B only N falls, as 1/kappa. By enumeration of all
    # batches of 1 to 5 examples.
    mode, gradients, g1, g2 = enumerated
    noise, rest = noise_and_signal_for_scaling(*raw_means(g1, g2), 2, 5, mode)
    for size in (1, 2, 3, 4, 5):
        if mode == "with_replacement":
            batches = list(itertools.product(range(5), repeat=size))
        else:
            batches = list(itertools.combinations(range(5), size))
        means = np.array([gradients[list(batch)].mean(axis=0) for batch in batches])
        square = np.mean(np.sum(means**2, axis=1))
        np.testing.assert_allclose(rest + noise * 2 / size, square, rtol=1e-12)


def test_corrected_signal_with_augmentation_is_an_upper_bound():
    # Each of four examples has two versions, drawn anew each time; halves of one example.
    gradients = np.random.default_rng(1).normal(size=(4, 2, 3))
    pairs = [
        (gradients[i, a], gradients[j, b])
        for i, j in itertools.permutations(range(4), 2)
        for a, b in itertools.product(range(2), repeat=2)
    ]
    noise, raw_signal = raw_means(*map(np.array, zip(*pairs)))
    full = gradients.mean(axis=(0, 1))
    within = np.mean(np.sum((gradients - gradients.mean(axis=1, keepdims=True)) ** 2, axis=2))
    corrected = correct_signal(raw_signal, noise, 1, 4, "shuffled_epochs")
    np.testing.assert_allclose(corrected, full @ full + within / 4, rtol=1e-12)


def test_short_last_batch_counts_with_the_mean_size():
    # Ten examples, 2B = 6: an epoch has halves of 3 and of 2 examples. The log weighs by size.
    gradients = np.random.default_rng(2).normal(0.3, 1.0, (10, 4))
    full, spread = gradients.mean(axis=0), gradients.var(axis=0, ddof=1).sum()
    expected = {size: spread / size for size in (3, 2)}  # see the test above
    noise = np.average(list(expected.values()), weights=[3, 2])
    raw_signal = full @ full - spread / 10
    corrected = correct_signal(raw_signal, noise, 2.5, 10, "shuffled_epochs")
    np.testing.assert_allclose(corrected, full @ full, rtol=1e-12)


def test_fixed_order_is_left_alone():
    assert correct_signal(1.0, 2.0, 4, 8, "fixed_order") == 1.0
    assert correct_noise(2.0, 4, 8, "fixed_order") == 2.0


@pytest.mark.parametrize(
    "correct",
    [
        lambda *a: correct_signal(1.0, *a),
        correct_noise,
        lambda noise, *a: noise_and_signal_for_scaling(noise, 1.0, *a)[0],
    ],
)
def test_corrections_refuse_what_cannot_be(correct):
    with pytest.raises(ValueError, match=r"`mode` must be one of .*Received: mode='shuffled'"):
        correct(1.0, 2, 5, "shuffled")
    with pytest.raises(ValueError, match=r"`batch_size` must be a number > 0. Received"):
        correct(1.0, 0, 5, "with_replacement")
    with pytest.raises(ValueError, match=r"`num_examples` must be an integer >= 1. Received"):
        correct(1.0, 2, 5.5, "with_replacement")
    with pytest.raises(ValueError, match="must not exceed `num_examples`.*Received: batch_size=6"):
        correct(1.0, 6, 5, "shuffled_epochs")
    assert correct(1.0, 6, 5, "with_replacement") == 1.0


def test_halves_of_all_examples_have_no_noise():
    with pytest.raises(ValueError, match="a half that holds all examples has no noise.*Received"):
        correct_noise(0.0, 5, 5, "without_replacement")


# Means of correlated series: AR(1), whose mean has a variance in closed form.


def autoregression(rng, count, length, phi):
    """`count` stationary AR(1) series with variance 1."""
    noise = rng.normal(size=(count, length)) * math.sqrt(1 - phi**2)
    noise[:, 0] = rng.normal(size=count)
    return signal.lfilter([1.0], [1.0, -phi], noise, axis=1)


def variance_of_mean(length, phi):
    """Variance of the mean of an AR(1) series, `sum_ij phi^|i - j| / length^2`."""
    lags = np.arange(1, length)
    return (length + 2 * np.sum((length - lags) * phi**lags)) / length**2


def covered(estimates, truth, confidence=0.95):
    intervals = [e.interval(confidence) for e in estimates]
    return np.mean([i.ci_low <= truth <= i.ci_high for i in intervals])


@pytest.mark.parametrize(
    ("phi", "length"), [(0.0, 50), (0.0, 400), (0.5, 100), (0.8, 400), (0.9, 1000)], ids=str
)
def test_intervals_of_correlated_series_cover(phi, length):
    # Both methods rest on approximations for short series. In 6000 simulations of these five
    # cases coverage was 0.951 to 0.960 (autocovariance) and 0.940 to 0.950 (batch means): hence
    # 0.015 beside the 4 standard errors of 1000 simulations.
    series = autoregression(np.random.default_rng(7), 1000, length, phi)
    for method in METHODS:
        estimates = [series_mean(values, method=method) for values in series]
        error = abs(covered(estimates, 0.0) - 0.95)
        assert error < 0.015 + coverage_error(0.95, 1000), method
    if phi >= 0.5:  # what the formula for independent values would do
        naive = np.abs(series.mean(axis=1)) / stats.sem(series, axis=1)
        assert np.mean(naive < 1.96) < 0.8


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8], ids=str)
def test_standard_error_is_that_of_the_closed_form(phi):
    # The estimates of the variance scatter with relative variance 2 / degrees of freedom. White
    # noise is overestimated, since a negative autocorrelation is not credited: by the mean of
    # max(0, 2 rho), with rho normal of variance 1/n: 2 / sqrt(2 pi n) = 2.5 %.
    length, count = 1000, 200
    series = autoregression(np.random.default_rng(1), count, length, phi)
    for method in METHODS:
        estimates = [series_mean(values, method=method) for values in series]
        ratio = np.mean([e.standard_error**2 for e in estimates]) / variance_of_mean(length, phi)
        freedom = np.mean([e.degrees_of_freedom for e in estimates])
        # 5 %: batches of ten correlation times are still a little correlated.
        assert abs(ratio - 1) < 0.05 + 4 * math.sqrt(2 / freedom / count), method


def test_correlation_time():
    # 1 + 2 sum phi^t = (1 + phi) / (1 - phi) = 9; the relative error of the time is about
    # sqrt(2 (2 W + 1) / n), with a window W of some 20.
    [values] = autoregression(np.random.default_rng(5), 1, 40000, 0.8)
    time = series_mean(values).correlation_time
    assert abs(time / 9 - 1) < 4 * math.sqrt(2 * 41 / 40000)


def test_negative_correlation_is_not_credited():
    series = autoregression(np.random.default_rng(2), 50, 200, -0.5)
    for values in series:
        estimate = series_mean(values)
        assert estimate.correlation_time == 1.0
        np.testing.assert_allclose(estimate.standard_error, stats.sem(values), rtol=1e-12)


def test_rows_of_different_length_cover():
    # Rows are means over 1 to 9 steps of an AR(1) process; the mean over steps is wanted. 0.015
    # as above.
    rng = np.random.default_rng(11)
    lengths = rng.integers(1, 10, 150)
    ends = np.cumsum(lengths)
    estimates = {method: [] for method in METHODS}
    for steps in autoregression(rng, 1000, ends[-1], 0.7):
        rows = np.add.reduceat(steps, [0, *ends[:-1]]) / lengths
        for method in METHODS:
            estimates[method].append(series_mean(rows, lengths, method))
            np.testing.assert_allclose(estimates[method][-1].mean, steps.mean(), atol=1e-12)
    for method in METHODS:
        error = abs(covered(estimates[method], 0.0) - 0.95)
        assert error < 0.015 + coverage_error(0.95, 1000), method


VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=60)


@given(VALUES, st.floats(-5, 5).filter(lambda a: abs(a) > 0.01), st.floats(-100, 100))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_units_do_not_matter(values, scale, shift):
    values = np.round(values, 3)
    for method in METHODS:
        one = series_mean(values, method=method)
        other = series_mean(scale * values + shift, method=method)
        tolerance = 1e-9 * (1 + np.abs(values).max())
        assert other.mean == pytest.approx(scale * one.mean + shift, abs=10 * tolerance)
        if np.ptp(values) > 0.1 and one.correlation_time == pytest.approx(other.correlation_time):
            error = abs(scale) * one.standard_error
            assert other.standard_error == pytest.approx(error, rel=1e-6, abs=tolerance)


@given(VALUES, st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_mean_is_the_weighted_mean_and_errors_are_not_negative(values, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 5.0, len(values))
    for method in METHODS:
        estimate = series_mean(values, weights, method)
        assert estimate.mean == pytest.approx(np.average(values, weights=weights), abs=1e-9)
        assert estimate.standard_error >= 0
        assert estimate.degrees_of_freedom >= 1
        assert estimate.correlation_time >= 1


def test_series_without_spread():
    for method in METHODS:
        estimate = series_mean([2.0] * 12, method=method)
        assert (estimate.mean, estimate.standard_error) == (2.0, 0.0)
        assert estimate.interval().ci_high == 2.0


def test_series_that_are_too_short():
    assert math.isnan(series_mean([]).mean)
    one = series_mean([3.0, math.nan, None])
    assert one.mean == 3.0
    assert (one.interval().ci_low, one.interval().ci_high) == (-math.inf, math.inf)
    assert math.isfinite(series_mean([1.0, 2.0]).standard_error)


def test_series_refuse_bad_input():
    with pytest.raises(ValueError, match="must be lists of the same length. Received: values of"):
        series_mean([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="`weights` must be positive. Received: weights="):
        series_mean([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="`method` must be one of 'autocovariance', 'batch_means'"):
        series_mean([1.0, 2.0], method="bootstrap")


# Running means.


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
    assert means.ratio().ci_high == math.inf


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


# Drift.


def test_drift_of_a_line():
    interval = relative_drift(10 + 0.1 * np.arange(20), confidence=0.99)
    expected = 2.0 / (10 + 0.1 * 9.5)
    np.testing.assert_allclose([interval.mean, interval.ci_low, interval.ci_high], expected)


def test_drift_is_least_squares_on_time():
    rng = np.random.default_rng(0)
    lengths, values = rng.uniform(0.5, 2.0, 30), rng.normal(5, 1, 30)
    middles = np.cumsum(lengths) - lengths / 2
    slope, _ = np.polyfit(middles, values, 1, w=np.sqrt(lengths))
    mean = np.average(values, weights=lengths)
    np.testing.assert_allclose(
        relative_drift(values, lengths).mean, slope * lengths.sum() / mean, rtol=1e-9
    )


@pytest.mark.parametrize(("phi", "length"), [(0.0, 30), (0.5, 60), (0.8, 200)], ids=str)
def test_drift_covers(phi, length):
    # A trend of 40 % of the mean under correlated noise of 10 %; 0.015 for the approximations (in
    # 6000 simulations the three were covered with 0.957, 0.945 and 0.946).
    truth = 0.4
    trend = 1 + truth * (np.arange(length) - (length - 1) / 2) / length
    hits = 0
    for noise in autoregression(np.random.default_rng(6), 1000, length, phi):
        interval = relative_drift(trend + 0.1 * noise)
        hits += interval.ci_low <= truth <= interval.ci_high
    assert abs(hits / 1000 - 0.95) < 0.015 + coverage_error(0.95, 1000)


def test_drift_that_cannot_be_told():
    rng = np.random.default_rng(1)
    around_zero = relative_drift(rng.normal(0, 1, 40))
    assert (around_zero.ci_low, around_zero.ci_high) == (-math.inf, math.inf)
    few = relative_drift([1.0, 2.0, 3.0])
    assert (few.ci_low, few.ci_high) == (-math.inf, math.inf)


# Equilibrium: losses L_i(x) = <a_i, x> / |x|, which do not change with |x|.


class ScaleInvariantToy:
    """A table of losses `<a_i, x>/|x| + spring |x|^2 / 2`; the spring breaks scale invariance."""

    def __init__(self, dimension=6, examples=40, spring=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(examples, dimension))
        self.table[:, 0] += 1.0
        self.spring = spring

    def gradients(self, x, rows):
        """Gradient of the mean loss of the examples `rows` (chains, B) at `x` (chains, d)."""
        radius = np.linalg.norm(x, axis=1, keepdims=True)
        a = self.table[rows].mean(axis=1)
        u = x / radius
        return (a - np.sum(a * u, axis=1, keepdims=True) * u) / radius + self.spring * x

    def run(self, x, steps, record_every, eta, decay, ell, batch_size=2, seed=1):
        """SVAG with decay before the step; the columns that a run records, for all chains.

        Returns:
            Arrays R `(records + 1, chains)`, and N, G, <x, grad L> `(records, chains)`.
        """
        rng = np.random.default_rng(seed)
        r1, r2 = svag_coefficients(ell)
        everything = np.broadcast_to(np.arange(len(self.table)), (len(x), len(self.table)))
        norms, sums, rows = [np.sum(x**2, axis=1)], np.zeros((3, len(x))), []
        for step in range(1, steps + 1):
            draws = rng.integers(len(self.table), size=(2, len(x), batch_size))
            g1, g2 = (self.gradients(x, draw) for draw in draws)
            full = self.gradients(x, everything)
            sums += [
                np.sum((g1 - g2) ** 2, axis=1) / 2,
                np.sum(g1 * g2, axis=1),
                np.sum(x * full, axis=1),
            ]
            h = eta / ell
            x = (1 - h * decay) * x - h * (r1 * g1 + r2 * g2)
            if step % record_every == 0:
                norms.append(np.sum(x**2, axis=1))
                rows.append(sums / record_every)
                sums = np.zeros((3, len(x)))
        noise, signals, radial = np.array(rows).transpose(1, 0, 2)
        return np.array(norms), noise, signals, radial


ETA, DECAY = 0.3, 0.2


def simulate(ell, spring=0.0, chains=48, start=None, time=60.0, records=40, batch_size=2):
    """Chains of the toy over a stretch of continuous time, from near equilibrium or from `start`.

    The time constant of R near equilibrium is 1 / (4 lambda) = 1.25.
    """
    toy = ScaleInvariantToy(spring=spring)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(chains, 6))
    x *= (start or 1.2) / np.linalg.norm(x, axis=1, keepdims=True)
    if start is None:
        warm = round(20 * ell / ETA)
        x = continue_from(toy, x, warm, ell, batch_size)
    every = round(time * ell / ETA / records)
    return toy.run(x, every * records, every, ETA, DECAY, ell, batch_size), every


def continue_from(toy, x, steps, ell, batch_size):
    rng = np.random.default_rng(99)
    r1, r2 = svag_coefficients(ell)
    for _ in range(steps):
        draws = rng.integers(len(toy.table), size=(2, len(x), batch_size))
        g1, g2 = (toy.gradients(x, draw) for draw in draws)
        x = (1 - ETA / ell * DECAY) * x - ETA / ell * (r1 * g1 + r2 * g2)
    return x


@pytest.fixture(scope="module")
def equilibria():
    """For each ell the columns of chains in equilibrium, and the steps of a record."""
    return {ell: simulate(ell) for ell in (1, 2, 8)}


@pytest.mark.parametrize("spring", [0.0, 0.3], ids=["scale_invariant", "not"])
@pytest.mark.parametrize("ell", [0.5, 1, 2, 8])
def test_one_step_by_enumeration(ell, spring):
    # All pairs of examples at one point: the mean of R after the step, exactly.
    toy = ScaleInvariantToy(examples=7, spring=spring)
    x = np.array([[0.3, -0.5, 0.8, 0.1, -0.2, 0.4]])
    single = [toy.gradients(x, np.array([[i]]))[0] for i in range(7)]
    g1, g2 = map(np.array, zip(*itertools.product(single, repeat=2)))
    r1, r2 = svag_coefficients(ell)
    h = ETA / ell
    after = (1 - h * DECAY) * x - h * (r1 * g1 + r2 * g2)
    noise, raw_signal = raw_means(g1, g2)
    radial = float(x[0] @ np.mean(single, axis=0))
    norms = [np.sum(x**2), np.mean(np.sum(after**2, axis=1))]
    given_radial = weight_norm_imbalance(
        norms, [noise], [raw_signal], [1], ETA, DECAY, ell, radial_gradient=[radial]
    )
    assert given_radial.mean == pytest.approx(0.0, abs=1e-12)
    without = weight_norm_imbalance(norms, [noise], [raw_signal], [1], ETA, DECAY, ell)
    expected = -2 * (1 - h * DECAY) * radial / (h * (raw_signal + ell * noise))
    assert without.mean == pytest.approx(expected, abs=1e-12)
    assert (radial == pytest.approx(0, abs=1e-12)) == (spring == 0)


def test_half_is_balanced_at_every_single_step():
    # ell = 1/2 is SGD on the whole batch, whose |g|^2 is G + N/2 step by step: nothing is random.
    toy = ScaleInvariantToy()
    x = np.random.default_rng(0).normal(size=(1, 6))
    norms, noise, signals, _ = toy.run(x, 50, 1, ETA, DECAY, 0.5)
    balance = weight_norm_imbalance(norms[:, 0], noise[:, 0], signals[:, 0], 1, ETA, DECAY, 0.5)
    np.testing.assert_allclose([balance.ci_low, balance.ci_high], 0.0, atol=1e-12)


@pytest.mark.parametrize("ell", [1, 2, 8])
def test_balance_covers_zero_and_is_sharp(equilibria, ell):
    (norms, noise, signals, _), every = equilibria[ell]
    balances = [
        weight_norm_imbalance(norms[:, c], noise[:, c], signals[:, c], every, ETA, DECAY, ell)
        for c in range(norms.shape[1])
    ]
    hits = np.mean([b.ci_low <= 0 <= b.ci_high for b in balances])
    assert abs(hits - 0.95) < coverage_error(0.95, len(balances))
    means = np.array([b.mean for b in balances])
    assert abs(means.mean()) < 3 * stats.sem(means)
    # The identity of another ell, or that of the SDE, is told from the right one.
    for wrong in {1, 2, 8} - {ell}:
        off = [
            weight_norm_imbalance(
                norms[:, c], noise[:, c], signals[:, c], every, wrong / ell * ETA, DECAY, wrong
            ).mean
            for c in range(norms.shape[1])
        ]
        assert abs(np.mean(off)) > 10 * stats.sem(off)


@pytest.mark.parametrize("ell", [1, 2, 8])
def test_equilibrium_weight_norm(equilibria, ell):
    # Stretch means: R is recorded at ends, N and G over stretches, hence R over inner ends and the
    # mean of both outer ones. The standard error is over chains.
    (norms, noise, signals, _), _ = equilibria[ell]
    measured = (norms[:-1] + norms[1:]).mean(axis=0) / 2
    expected = equilibrium_weight_norm(noise.mean(axis=0), signals.mean(axis=0), ETA, DECAY, ell)
    difference = measured / expected - 1
    assert abs(difference.mean()) < 3 * stats.sem(difference)
    # The term eta lambda^2 / ell and the share of G are seen.
    without = ETA * (signals.mean(axis=0) / ell + noise.mean(axis=0)) / (2 * DECAY)
    sde = equilibrium_weight_norm(noise.mean(axis=0), signals.mean(axis=0), ETA, DECAY, math.inf)
    if ell < 8:
        assert abs(np.mean(measured / without - 1)) > 3 * stats.sem(measured / without)
    assert abs(np.mean(measured / sde - 1)) > 3 * stats.sem(measured / sde)


def records_of(columns, every, chain, learning_rate=ETA):
    norms, noise, signals, _ = columns
    return [
        {
            "step": i * every,
            "learning_rate": learning_rate,
            "weight_norm": norms[i, chain],
            "gradient_noise": noise[i - 1, chain] if i else None,
            "gradient_signal": signals[i - 1, chain] if i else None,
        }
        for i in range(len(norms))
    ]


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


def test_balance_with_the_radial_gradient_holds_without_scale_invariance():
    (norms, noise, signals, radial), every = simulate(2, spring=0.1)
    hits, means = 0, []
    for c in range(norms.shape[1]):
        columns = norms[:, c], noise[:, c], signals[:, c], every, ETA, DECAY, 2
        balance = weight_norm_imbalance(*columns, radial_gradient=radial[:, c])
        assert weight_norm_imbalance(*columns).ci_high < 0
        hits += balance.ci_low <= 0 <= balance.ci_high
        means.append(balance.mean)
    assert abs(hits / len(means) - 0.95) < coverage_error(0.95, len(means))
    assert abs(np.mean(means)) < 3 * stats.sem(means)


def test_short_test_is_undecided():
    columns, every = simulate(1, chains=1, time=6.0, records=5)
    result = equilibrium_test(records_of(columns, every, 0), DECAY)
    assert result.in_equilibrium is None
    assert "Whether the change of weight_norm" in result.reason
    assert "is within 10 % cannot be told" in result.reason


def test_equilibrium_refuses_bad_input(equilibria):
    columns, every = equilibria[1]
    rows = records_of(columns, every, 0)
    with pytest.raises(ValueError, match="`rows` must be at least 5.*Received: 4 rows"):
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


# Yaida's relation: the linear problem, whose stationary moments are exact.


def stationary_moments(a, b, h, ell):
    """E x and E x^2 in equilibrium, from the fixed point of one SVAG step of size h."""
    mean_a, mean_b = a.mean(), b.mean()
    first = -mean_b / mean_a
    aa = mean_a**2 + ell * a.var()
    bb = mean_b**2 + ell * b.var()
    ab = mean_a * mean_b + ell * np.mean((a - mean_a) * (b - mean_b))
    # E x^2 = E (1 - h A)^2 E x^2 - 2 h E (1 - h A) b E x + h^2 E b^2
    second = (h**2 * bb - 2 * h * (mean_b - h * ab) * first) / (2 * h * mean_a - h**2 * aa)
    return first, second


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("ell", [0.5, 1, 2, 8])
def test_yaida_on_the_linear_problem(ell, decay):
    rng = np.random.default_rng(0)
    a, b, eta = rng.uniform(0.5, 1.5, 20), rng.normal(0.5, 1.0, 20), 0.4
    first, second = stationary_moments(a + decay, b, eta / ell, ell)  # decay in the gradient
    # Of the loss alone: <x, grad L>, G and N (batches of one), averaged over equilibrium.
    radial = a.mean() * second + b.mean() * first
    raw_signal = a.mean() ** 2 * second + 2 * a.mean() * b.mean() * first + b.mean() ** 2
    cov = np.cov(a, b, bias=True)
    noise = cov[0, 0] * second + 2 * cov[0, 1] * first + cov[1, 1]
    radial, total_signal = with_weight_decay(radial, raw_signal, second, decay)
    ratio = yaida_ratio([radial] * 2, [noise] * 2, [total_signal] * 2, eta, ell)
    np.testing.assert_allclose([ratio.mean, ratio.ci_low, ratio.ci_high], 1.0, rtol=1e-6)
    # The same as a balance that does not change, with the decay in the gradient or beside it.
    balance = weight_norm_imbalance(
        [second] * 2, noise, total_signal, 1, eta, 0.0, ell, radial_gradient=radial
    )
    assert balance.mean == pytest.approx(0, abs=1e-9)
    beside = weight_norm_imbalance(
        [second] * 2,
        noise,
        raw_signal,
        1,
        eta,
        decay,
        ell,
        radial_gradient=a.mean() * second + b.mean() * first,
    )
    assert beside.mean == pytest.approx(0, abs=1e-9)
