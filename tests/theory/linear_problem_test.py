"""Tests of keras_svag/theory/exact/linear_problem.py, against enumeration and an ODE solver."""

import itertools
import math

import keras
import numpy as np
import pytest
from scipy import integrate

from keras_svag import SVAG
from keras_svag.theory import LinearProblem, svag_coefficients
from tests.oracles import linear_svag_moments
from tests.theory.helpers import assert_moments

# The named problem: four examples, eta = 0.5, start 1.5, horizon of 8 SGD steps (time 4).
TABLE = np.array([[0.5, 1.0], [1.5, -1.0], [1.0, 0.5], [2.0, 0.2]])
X0 = 1.5

# (learning rate, weight decay, momentum, SGD steps until the horizon)
SETTINGS = {
    "plain": (0.5, 0.0, 0.0, 8),
    "decay": (0.5, 0.1, 0.0, 8),
    "momentum": (0.1, 0.0, 0.9, 20),
    "momentum_decay": (0.1, 0.1, 0.9, 20),
}
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS)


def named_problem(setting, **options):
    learning_rate, decay, momentum, _ = SETTINGS[setting]
    return LinearProblem(*TABLE.T, learning_rate, decay, momentum, **options)


def enumerate_svag(problem, ell, x0, steps):
    """Moments of (x, v) over all sequences of pairs of batches, each equally likely.

    The update is written as Keras' SGD does it, with the hyperparameters of SVAG(ell); v is the
    optimizer's velocity, per step.
    """
    r1, r2 = svag_coefficients(ell)
    rate, momentum, decay = problem.learning_rate / ell, problem.momentum, problem.weight_decay
    if momentum:
        rate, momentum, decay = rate / ell, 1 - (1 - momentum) / ell, decay * ell
    indices = range(len(problem.a))
    batches = list(itertools.product(indices, repeat=problem.batch_size))
    x, v = np.array([x0]), np.zeros(1)
    for _ in range(steps):
        ends = []
        for first, second in itertools.product(map(list, batches), repeat=2):
            g1 = np.mean([problem.a[i] * x + problem.b[i] for i in first], axis=0)
            g2 = np.mean([problem.a[i] * x + problem.b[i] for i in second], axis=0)
            new_v = momentum * v - rate * (r1 * g1 + r2 * g2)
            ends.append((x - rate * decay * x + new_v, new_v))
        x, v = np.concatenate([e[0] for e in ends]), np.concatenate([e[1] for e in ends])
    return x, v


def sample_moments(x, v=None):
    z = np.stack([x] if v is None else [x, v], axis=1)
    return z.mean(axis=0), z.T @ z / len(z)


@EVERY_SETTING
@pytest.mark.parametrize("ell", [0.5, 1.0, 3.0, 7.5])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_svag_moments_are_those_over_all_sequences(setting, ell, batch_size):
    learning_rate, decay, momentum, _ = SETTINGS[setting]
    # 3 examples in batches of 1 or 2 in batches of 2, three steps: 729 or 4,096 sequences.
    table = TABLE[:3] if batch_size == 1 else TABLE[:2]
    problem = LinearProblem(*table.T, learning_rate, decay, momentum, batch_size)
    x, v = enumerate_svag(problem, ell, X0, steps=3)
    # The velocity per unit of time, of which a step is 1 / ell.
    mean, second = sample_moments(x, ell * v if momentum else None)
    # Both in float64; sums over 4,096 terms.
    assert_moments(problem.svag_moments(ell, X0, 3), mean, second, rtol=1e-12)


@EVERY_SETTING
def test_svag_optimizer_has_these_moments(setting):
    # The optimizer itself, op by op, on one weight whose entries are all 6,561 sequences of four
    # steps: exact but for float32, some 1e-7 for each of them and averaged.
    learning_rate, decay, momentum, _ = SETTINGS[setting]
    ell, steps, table = 4.0, 4, TABLE[:3]
    optimizer = SVAG(learning_rate, ell=ell, momentum=momentum, weight_decay=decay)
    pairs = list(itertools.product(range(3), repeat=2))
    sequences = np.array(list(itertools.product(pairs, repeat=steps)))
    x = keras.Variable(np.full(len(sequences), X0, "float32"))
    optimizer.build([x])
    a, b = table.T.astype("float32")
    for step in range(steps):
        gradients = [[a[i] * x.numpy() + b[i]] for i in sequences[:, step].T]
        with optimizer.combined():
            optimizer.apply(optimizer.combine(*map(keras.ops.convert_to_tensor, gradients)), [x])
    velocity = ell * optimizer.momentums[0].numpy().astype(np.float64) if momentum else None
    mean, second = sample_moments(x.numpy().astype(np.float64), velocity)
    problem = LinearProblem(*table.T, learning_rate, decay, momentum)
    assert_moments(problem.svag_moments(ell, X0, steps), mean, second, rtol=1e-6)


def test_svag_moments_are_those_of_the_recursion_written_out():
    expected = linear_svag_moments(*TABLE.T, 0.5, 6.0, X0, 40)
    actual = named_problem("plain").svag_moments(6.0, X0, np.arange(41))
    np.testing.assert_allclose(actual.mean[:, 0], expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(actual.second[:, 0, 0], expected[:, 1], rtol=1e-12)


def ito_equations(problem):
    """Time derivatives of (Ex, EV, Exx, ExV, EVV), from Ito's formula term by term."""
    a, b, rate, decay = problem.a, problem.b, problem.learning_rate, problem.weight_decay
    mean_a, mean_b = np.mean(a), np.mean(b)
    caa = np.mean((a - mean_a) ** 2) / problem.batch_size
    cab = np.mean((a - mean_a) * (b - mean_b)) / problem.batch_size
    cbb = np.mean((b - mean_b) ** 2) / problem.batch_size
    friction = 1 - problem.momentum

    def plain(_, m):
        x, _, xx, _, _ = m
        noise = rate * (caa * xx + 2 * cab * x + cbb)
        slope = mean_a + decay
        return [-slope * x - mean_b, 0, -2 * slope * xx - 2 * mean_b * x + noise, 0, 0]

    def with_momentum(_, m):
        x, v, xx, xv, vv = m
        noise = rate**2 * (caa * xx + 2 * cab * x + cbb)
        return [
            v - rate * decay * x,
            -friction * v - rate * (mean_a * x + mean_b),
            2 * xv - 2 * rate * decay * xx,
            vv - (rate * decay + friction) * xv - rate * (mean_a * xx + mean_b * x),
            -2 * friction * vv - 2 * rate * (mean_a * xv + mean_b * v) + noise,
        ]

    return with_momentum if problem.momentum else plain


@EVERY_SETTING
@pytest.mark.parametrize("batch_size", [1, 4])
def test_sde_moments_solve_the_moment_equations(setting, batch_size):
    problem = named_problem(setting, batch_size=batch_size)
    velocity = -0.3 if problem.momentum else 0.0
    times = np.array([0.0, 0.7, 5.0])
    start = [X0, velocity, X0**2, X0 * velocity, velocity**2]
    solved = integrate.solve_ivp(
        ito_equations(problem), (0, 5), start, "DOP853", times, rtol=1e-12, atol=1e-13
    ).y.T
    actual = problem.sde_moments(X0, times, velocity)
    size = actual.mean.shape[-1]
    # The solver's error accumulates over some hundred steps of 1e-12.
    np.testing.assert_allclose(actual.mean, solved[:, :size], rtol=0, atol=1e-9)
    second = solved[:, [2, 3, 3, 4]].reshape(-1, 2, 2)[:, :size, :size]
    np.testing.assert_allclose(actual.second, second, rtol=0, atol=1e-9)


@EVERY_SETTING
def test_weak_error_is_of_order_one_over_ell(setting):
    problem, steps = named_problem(setting), SETTINGS[setting][-1]
    time = steps * problem.time_per_step
    ells = np.array([16, 32, 64, 128])
    exact = problem.sde_moments(X0, time).second[0, 0]
    errors = np.array(
        [problem.svag_moments(ell, X0, steps * ell).second[0, 0] - exact for ell in ells]
    )
    order = -np.polyfit(np.log(ells), np.log(np.abs(errors)), 1)[0]
    assert order == pytest.approx(1, abs=0.02)
    # l e(l) = c + d/l + O(1/l^2): the distance to the limit halves too, and c is known in closed
    # form. Over 16..128 the term after it moves the ratios by a few per cent.
    limit = problem.leading_error(X0, time)[1][0, 0]
    gaps = ells * errors - limit
    np.testing.assert_allclose(gaps[:-1] / gaps[1:], 2, rtol=0.05)
    assert abs(gaps[-1] / limit) < 0.005


@EVERY_SETTING
def test_leading_error_is_the_limit_of_every_moment(setting):
    # Extrapolated once, l e(l) is left with an error of order 1/l^2: at 512 and 1024 some 1e-5.
    problem, steps = named_problem(setting), SETTINGS[setting][-1]
    time = steps * problem.time_per_step
    scaled = []
    for ell in (512, 1024):
        svag, sde = problem.svag_moments(ell, X0, steps * ell), problem.sde_moments(X0, time)
        scaled.append([ell * (a - b) for a, b in zip(svag, sde)])
    mean, second = problem.leading_error(X0, time)
    np.testing.assert_allclose(mean, 2 * scaled[1][0] - scaled[0][0], rtol=1e-3)
    np.testing.assert_allclose(second, 2 * scaled[1][1] - scaled[0][1], rtol=1e-3)


def test_order_is_not_one_where_the_leading_error_crosses_zero():
    # Why a problem and its horizon are named, and the limit of l e(l) looked at: with momentum the
    # error oscillates with the horizon, and where its leading term is small, higher ones show.
    problem, ells = named_problem("momentum_decay"), np.array([16, 128])
    leading = {s: problem.leading_error(X0, float(s))[1][0, 0] for s in range(10, 60)}
    assert min(leading.values()) < -0.1 and max(leading.values()) > 0.01
    steps = min(leading, key=lambda s: abs(leading[s]))
    exact = problem.sde_moments(X0, float(steps)).second[0, 0]
    first, last = (problem.svag_moments(e, X0, steps * e).second[0, 0] - exact for e in ells)
    order = math.log(abs(first / last)) / math.log(ells[1] / ells[0])
    assert abs(order - 1) > 0.1


def test_half_ell_is_sgd_at_twice_the_batch_size_and_learning_rate():
    half = named_problem("decay").svag_moments(0.5, X0, np.arange(6))
    doubled = LinearProblem(*TABLE.T, 1.0, 0.1, batch_size=2).sgd_moments(X0, np.arange(6))
    for actual, expected in zip(half, doubled):
        np.testing.assert_allclose(actual, expected, rtol=1e-13)


def test_shapes_and_order_of_steps():
    problem = named_problem("momentum_decay")
    steps = np.array([[7, 0], [3, 3]])
    moments = problem.sgd_moments(X0, steps, velocity=0.5)
    assert moments.mean.shape == (2, 2, 2) and moments.covariance.shape == (2, 2, 2, 2)
    np.testing.assert_array_equal(moments.mean[0, 1], [X0, 0.5])
    np.testing.assert_array_equal(moments.mean[1, 0], moments.mean[1, 1])
    alone = problem.sgd_moments(X0, 7, velocity=0.5)
    np.testing.assert_allclose(moments.second[0, 0], alone.second, rtol=1e-13)
    assert problem.sde_moments(X0, 2.0).mean.shape == (2,)


LINEAR = {"a": [1.0, 2.0], "b": [0.0, 1.0], "learning_rate": 0.1}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: LinearProblem(**LINEAR | {"b": [1.0]}), "one finite number per example"),
        (lambda: LinearProblem(**LINEAR | {"a": [], "b": []}), "one finite number per example"),
        (lambda: LinearProblem(**LINEAR | {"a": [1.0, math.nan]}), "one finite number"),
        (lambda: LinearProblem(**LINEAR | {"learning_rate": 0}), "Received: learning_rate=0"),
        (lambda: LinearProblem(**LINEAR, weight_decay=-1.0), "Received: weight_decay=-1.0"),
        (lambda: LinearProblem(**LINEAR, momentum=1.0), r"in \[0, 1\). Received: momentum=1.0"),
        (lambda: LinearProblem(**LINEAR, batch_size=0), "Received: batch_size=0"),
        (lambda: LinearProblem(**LINEAR).sgd_moments(1.0, 1.5), "Received: steps=1.5"),
        (lambda: LinearProblem(**LINEAR).sgd_moments(1.0, [1, -1]), "integers >= 0"),
        (lambda: LinearProblem(**LINEAR).sde_moments(1.0, -1.0), "Received: time=-1.0"),
        (lambda: LinearProblem(**LINEAR).svag_moments(0.4, 1.0, 1), "Received: ell=0.4"),
        (lambda: LinearProblem(**LINEAR).sde_moments("1", 1.0), "Received: x0='1'"),
        (lambda: LinearProblem(**LINEAR).sde_moments(1.0, 1.0, velocity=1.0), "Set `momentum`"),
        (
            lambda: LinearProblem(**LINEAR, momentum=0.25).svag_moments(0.5, 1.0, 1),
            "above 0.75 for a momentum of 0.25",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
