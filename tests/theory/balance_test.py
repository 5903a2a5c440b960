"""Tests of keras_svag/theory/equilibrium/balance.py, by enumeration and on a toy."""

import itertools
import math

import keras
import numpy as np
import pytest
from scipy import stats

from keras_svag.theory import (
    equilibrium_weight_norm,
    heavy_ball_weight_norm,
    svag_coefficients,
    weight_norm_imbalance,
    with_weight_decay,
    yaida_ratio,
)
from tests.theory.helpers import coverage_error, raw_means
from tests.theory.scale_invariant_toy import DECAY, ETA, ScaleInvariantToy, simulate


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
    # Segment means: R is recorded at ends, N and G over segments, hence R over inner ends and the
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


@pytest.mark.parametrize("norm", [[], [[1.0, 1.0]], 1.0], ids=str)
def test_balance_of_what_is_no_series(norm):
    with pytest.raises(ValueError, match="`weight_norm` must be a list of numbers.*of shape"):
        weight_norm_imbalance(norm, 1.0, 1.0, 1, 0.1, 0.1)


def test_balance_where_gradients_add_nothing():
    balance = weight_norm_imbalance([1.0, 1.0, 1.0], 0.0, 0.0, 1, 0.1, 0.1)
    assert math.isnan(balance.mean) and (balance.ci_low, balance.ci_high) == (-math.inf, math.inf)


# Heavy ball.


def heavy_ball(toy, x, steps, eta, decay, momentum, seed=1):
    """Chains of the heavy ball of Keras; yields x and v after each step."""
    rng = np.random.default_rng(seed)
    v = np.zeros_like(x)
    for _ in range(steps):
        gradient = toy.gradients(x, rng.integers(len(toy.table), size=(len(x), 2)))
        v = momentum * v - eta * gradient
        x = (1 - eta * decay) * x + v
        yield x, v


def test_heavy_ball_of_the_toy_is_that_of_keras():
    toy, start = ScaleInvariantToy(), np.random.default_rng(0).normal(size=(3, 6))
    weight = keras.Variable(start, dtype="float32")
    optimizer = keras.optimizers.SGD(0.25, momentum=0.875, weight_decay=0.5)
    optimizer.build([weight])
    rng = np.random.default_rng(1)
    for x, v in heavy_ball(toy, start, 20, 0.25, 0.5, 0.875):
        rows = rng.integers(len(toy.table), size=(3, 2))
        gradient = toy.gradients(keras.ops.convert_to_numpy(weight), rows)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
        # 20 steps of float32, each with a few roundings of numbers of order 1.
        np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), x, rtol=0, atol=1e-5)
        velocity = keras.ops.convert_to_numpy(optimizer.momentums[0])
        np.testing.assert_allclose(velocity, v, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("eta", "decay", "momentum"),
    [(0.3, 0.2, 0.0), (0.3, 0.2, 0.5), (0.06, 0.5, 0.9), (0.02, 1.0, 0.95), (0.01, 1.0, 0.99)],
)
def test_heavy_ball_weight_norm(eta, decay, momentum):
    # The inner products obey recursions in which nothing is random (docs/theory_conditions.md,
    # 3.6). So the means over K steps obey the identity up to the change of R over them, which
    # relative to what decay takes away is dR/R / (2 eta lambda K): below 0.1 % over these chains.
    relaxation = 1 / (eta * decay)
    toy = ScaleInvariantToy()
    x = np.random.default_rng(3).normal(size=(48, 6))
    path = heavy_ball(toy, x, round(110 * relaxation), eta, decay, momentum)
    squares = np.array(
        [(np.sum(x**2, axis=1).mean(), np.sum(v**2, axis=1).mean()) for x, v in path]
    )
    norm, velocity_norm = squares[round(10 * relaxation) :].mean(axis=0)
    expected = heavy_ball_weight_norm(velocity_norm, eta, decay, momentum)
    assert norm == pytest.approx(expected, rel=1e-3)
    if momentum:
        # Momentum counts: without the correlation of successive velocities R would be far less.
        assert norm > 2 * heavy_ball_weight_norm(velocity_norm, eta, decay, 0.0)


@pytest.mark.parametrize("eta", [0.02, 0.7])
@pytest.mark.parametrize("decay", [0.1, 1.2])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.95])
def test_heavy_ball_on_a_circle(eta, decay, momentum):
    # x = exp(i w t) in the plane, with a gradient that is tangential: nothing is random. With
    # s = 1 - eta lambda, v' = x' - s x, so eta g = b v - v' is orthogonal to x where
    # cos w = (b + s) / (1 + b s), and |v|^2 = |1 - s exp(-i w)|^2.
    shrink = 1 - eta * decay
    turn = np.exp(1j * math.acos((momentum + shrink) / (1 + momentum * shrink)))
    before, now, after = 1 / turn, 1.0, turn
    velocity, next_velocity = now - shrink * before, after - shrink * now
    assert (momentum * velocity - next_velocity).real == pytest.approx(0.0, abs=1e-12)
    norm = heavy_ball_weight_norm(abs(velocity) ** 2, eta, decay, momentum)
    assert norm == pytest.approx(1.0, rel=1e-9)


def test_heavy_ball_without_momentum_is_sgd():
    noise, signal = np.array([4.0, 1.0]), np.array([2.0, 0.5])
    np.testing.assert_allclose(
        heavy_ball_weight_norm(0.1**2 * (noise + signal), 0.1, 0.5, 0.0),
        equilibrium_weight_norm(noise, signal, 0.1, 0.5),
        rtol=1e-14,
    )


@pytest.mark.parametrize("changes", [{"momentum": 1.0}, {"learning_rate": 2.0}, {"momentum": -0.1}])
def test_heavy_ball_out_of_range(changes):
    arguments = {"learning_rate": 0.1, "weight_decay": 0.5, "momentum": 0.9, **changes}
    with pytest.raises(ValueError, match="`momentum`"):
        heavy_ball_weight_norm(1.0, **arguments)


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
