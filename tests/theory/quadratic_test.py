"""Tests of keras_svag/theory/exact/quadratic.py, against enumeration and an ODE solver."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, linalg

from keras_svag.theory import LinearProblem, Quadratic, svag_coefficients
from tests.theory.helpers import assert_moments

X0 = 1.5


@pytest.fixture
def quadratic():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(3, 3))
    return Quadratic(
        hessian=np.array([[1.0, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 1.5]]),
        covariance=root @ root.T,
        learning_rate=0.2,
        multiplicative=0.4 * rng.normal(size=(2, 3, 3)),
    )


def quadratic_noise(quadratic, second):
    extra = [a @ second @ a.T for a in quadratic.multiplicative]
    return quadratic.covariance + sum(extra, np.zeros_like(second))


def test_quadratic_sde_moments_solve_the_moment_equations(quadratic):
    start = np.array([1.0, -2.0, 0.5])

    def equations(_, state):
        mean, second = state[:3], state[3:].reshape(3, 3)
        drift = -quadratic.hessian @ second - second @ quadratic.hessian
        drift = drift + quadratic.learning_rate * quadratic_noise(quadratic, second)
        return np.concatenate([-quadratic.hessian @ mean, drift.ravel()])

    state = np.concatenate([start, np.outer(start, start).ravel()])
    times = np.array([0.0, 0.4, 3.0])
    solved = integrate.solve_ivp(
        equations, (0, 3), state, "DOP853", times, rtol=1e-12, atol=1e-13
    ).y.T
    actual = quadratic.sde_moments(start, times)
    np.testing.assert_allclose(actual.mean, solved[:, :3], rtol=0, atol=1e-9)
    np.testing.assert_allclose(actual.second, solved[:, 3:].reshape(3, 3, 3), rtol=0, atol=1e-9)


def test_quadratic_closed_forms():
    # Ornstein-Uhlenbeck: eta c (1 - exp(-2 h t)) / (2 h) in each eigendirection of H.
    curvatures, spreads, eta, time = np.array([1.0, 2.5]), np.array([0.7, 0.3]), 0.4, 0.9
    problem = Quadratic(np.diag(curvatures), np.diag(spreads), eta)
    moments = problem.sde_moments([1.0, -1.0], time)
    np.testing.assert_allclose(moments.mean, [1, -1] * np.exp(-curvatures * time), rtol=1e-12)
    variances = eta * spreads * (1 - np.exp(-2 * curvatures * time)) / (2 * curvatures)
    np.testing.assert_allclose(moments.covariance, np.diag(variances), rtol=0, atol=1e-14)
    # Geometric Brownian motion: E x^2 = x0^2 exp((eta s^2 - 2 h) t).
    problem = Quadratic([[0.8]], [[0.0]], eta, multiplicative=[[[1.1]]])
    second = problem.sde_moments([2.0], time).second[0, 0]
    assert second == pytest.approx(4 * math.exp((eta * 1.1**2 - 1.6) * time), rel=1e-12)


def test_stationary_covariance(quadratic):
    additive = Quadratic(quadratic.hessian, quadratic.covariance, 0.2)
    lyapunov = linalg.solve_continuous_lyapunov(quadratic.hessian, 0.2 * quadratic.covariance)
    np.testing.assert_allclose(additive.stationary_covariance(), lyapunov, rtol=1e-12)
    # With multiplicative noise: what the SDE has after a long time, whatever the start.
    late = quadratic.sde_moments([1.0, 2.0, 3.0], 100.0).covariance
    np.testing.assert_allclose(quadratic.stationary_covariance(), late, rtol=1e-9)
    assert np.linalg.norm(late - lyapunov) > 0.05 * np.linalg.norm(lyapunov)


def test_quadratic_svag_moments_are_those_over_all_sequences():
    # Signs s, t of +-1 with equal chance: g = H x + s c + t A x has the covariance
    # c c^T + A x x^T A^T. Four outcomes a half, 16 a step, 4,096 sequences of three steps.
    hessian, c = np.array([[1.0, 0.4], [0.4, 0.7]]), np.array([0.5, -0.8])
    a, eta, ell = np.array([[0.3, -0.6], [0.2, 0.5]]), 0.3, 5.0
    r1, r2 = svag_coefficients(ell)
    x = np.array([[1.0, -0.5]])
    for _ in range(3):
        gradients = [
            x @ hessian + s * c + t * x @ a.T for s, t in itertools.product((-1, 1), repeat=2)
        ]
        pairs = itertools.product(gradients, repeat=2)
        x = np.concatenate([x - eta / ell * (r1 * g1 + r2 * g2) for g1, g2 in pairs])
    problem = Quadratic(hessian, np.outer(c, c), eta, multiplicative=[a])
    moments = problem.svag_moments(ell, [1.0, -0.5], 3)
    assert_moments(moments, x.mean(axis=0), x.T @ x / len(x), rtol=1e-12)


def test_quadratic_and_linear_problem_agree():
    a = np.array([0.5, 1.5, 1.3])
    linear = LinearProblem(a, np.zeros(3), 0.4, batch_size=2)
    spread = math.sqrt(a.var() / 2)
    quadratic = Quadratic([[a.mean()]], [[0.0]], 0.4, multiplicative=[[[spread]]])
    for ours, other in [
        (linear.svag_moments(3, X0, [0, 5]), quadratic.svag_moments(3, [X0], [0, 5])),
        (linear.sde_moments(X0, [0, 5.0]), quadratic.sde_moments([X0], [0, 5.0])),
    ]:
        assert_moments(ours, *other, rtol=1e-13)


def test_stationary_covariance_in_many_dimensions():
    curvatures = np.linspace(1.0, 3.0, 20)
    problem = Quadratic(np.diag(curvatures), np.eye(20), 0.1)
    np.testing.assert_allclose(
        problem.stationary_covariance(), np.diag(0.05 / curvatures), rtol=0, atol=1e-12
    )
    assert problem.multiplicative.shape == (0, 20, 20)


def test_covariance_may_have_rounding_errors():
    Quadratic(np.eye(2), np.diag([1.0, -1e-12]), 0.1)
    for covariance in (np.diag([1e-12, -1e-12]), np.diag([0.0, -1e-12])):
        with pytest.raises(ValueError, match="`covariance` must be positive semidefinite"):
            Quadratic(np.eye(2), covariance, 0.1)


QUADRATIC = {"hessian": np.eye(2), "covariance": np.eye(2), "learning_rate": 0.1}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Quadratic(**QUADRATIC | {"hessian": np.eye(3)[:2]}), "`hessian` .* symmetric"),
        (lambda: Quadratic(**QUADRATIC | {"hessian": np.diag([1, math.inf])}), "symmetric matrix"),
        (lambda: Quadratic(**QUADRATIC | {"covariance": [1.0]}), "`covariance` must be a symm"),
        (
            lambda: Quadratic(**QUADRATIC, multiplicative=[[[1.0, math.nan], [0.0, 1.0]]]),
            "`multiplicative` must be",
        ),
        (lambda: Quadratic(**QUADRATIC).sde_moments([1.0, 1.0], 1e308), "`time` must be so short"),
        (lambda: Quadratic(**QUADRATIC | {"hessian": [[1, 2], [3, 4]]}), "symmetric matrix"),
        (lambda: Quadratic(**QUADRATIC | {"covariance": np.eye(3)}), "must have 2 rows"),
        (lambda: Quadratic(**QUADRATIC | {"covariance": -np.eye(2)}), "eigenvalue -1"),
        (lambda: Quadratic(**QUADRATIC, multiplicative=np.eye(2)), r"shape \(K, 2, 2\)"),
        (lambda: Quadratic(**QUADRATIC).sde_moments([1.0], 1.0), "`x0` must be 2 finite"),
        (
            lambda: Quadratic(**QUADRATIC | {"hessian": 0 * np.eye(2)}).stationary_covariance(),
            "Use a smaller learning rate",
        ),
        (
            lambda: Quadratic(
                **QUADRATIC, multiplicative=5 * np.eye(2)[None]
            ).stationary_covariance(),
            "learning_rate=0.1",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
