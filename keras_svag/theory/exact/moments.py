"""Exact moments of processes with a linear gradient, derived in `docs/theory_sde.md`."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from keras_svag._checks import as_floats, finite_float


class Moments(NamedTuple):
    """First and second moments of a random vector, at one time or at several.

    Attributes:
        mean: Array of shape `(..., d)`.
        second: Array of shape `(..., d, d)`, the mean of the outer product with itself.

    Example:

    >>> Moments(np.array([1.0]), np.array([[3.0]])).covariance
    array([[2.]])
    """

    mean: np.ndarray
    second: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Covariance, an array of shape `(..., d, d)`."""
        return self.second - self.mean[..., :, None] * self.mean[..., None, :]


class LinearDynamics:
    """Moments of a process whose mean is affine in its state and whose covariance is quadratic.

    For the extended state y = (1, z), one step over a time h is `y <- P(h) y + noise`, where the
    noise has mean zero and the covariance `h N(h)[y y^T]` given y, with N(h) linear in `y y^T`.
    So `S = E y y^T`, which holds all first and second moments, is mapped linearly to
    `P S P^T + h N(h)[S]`. Subclasses define P and N, polynomials in h of degree two.
    """

    # Continuous time of one SGD step; an SVAG step is `ell` times shorter.
    time_per_step: float

    def _mean_step(self, h: float) -> np.ndarray:
        """P(h), a matrix (k, k); P(0) is the identity."""
        raise NotImplementedError

    def _noise(self, h: float) -> np.ndarray:
        """N(h) as a matrix (k^2, k^2) on flattened matrices."""
        raise NotImplementedError

    def _recursion(self, h: float) -> np.ndarray:
        mean_step = self._mean_step(h)
        return _on_symmetric(np.kron(mean_step, mean_step) + h * self._noise(h))

    def _generator(self) -> np.ndarray:
        # The central difference is exact, since P has no powers above the second.
        drift = (self._mean_step(1.0) - self._mean_step(-1.0)) / 2
        return _on_symmetric(_kronecker_sum(drift) + self._noise(0.0))

    def _second_order(self) -> np.ndarray:
        """Coefficient of h^2 in the recursion (of h^0 and h^1: identity and generator)."""
        forward, backward = self._mean_step(1.0), self._mean_step(-1.0)
        drift = (forward - backward) / 2
        curvature = (forward + backward) / 2 - np.eye(len(forward))
        noise = (self._noise(1.0) - self._noise(-1.0)) / 2
        return _on_symmetric(np.kron(drift, drift) + _kronecker_sum(curvature) + noise)

    def _svag_moments(self, ell: float, start: np.ndarray, steps: ArrayLike) -> Moments:
        recursion = self._recursion(self.time_per_step / ell)
        steps = _checked_steps(steps)
        state, done, states = half_vector(start), 0, {}
        for step in np.unique(steps):
            state = np.linalg.matrix_power(recursion, step - done) @ state
            states[step], done = state, step
        return unpack_moments(np.array([states[s] for s in steps.flat]).reshape(*steps.shape, -1))

    def _sde_moments(self, start: np.ndarray, time: ArrayLike) -> Moments:
        exponent = _checked_time(time)[..., None, None] * self._generator()
        if not np.isfinite(exponent).all():
            raise ValueError(
                "`time` must be so short that time times the rates of the problem is a float. "
                f"Received: time={time!r}"
            )
        return unpack_moments(linalg.expm(exponent) @ half_vector(start))

    def _leading_error(self, start: np.ndarray, time: float) -> Moments:
        time, generator = float(_checked_time(time)), self._generator()
        direction = self._second_order() - generator @ generator / 2
        change = linalg.expm_frechet(time * generator, time * direction, compute_expm=False)
        return unpack_moments(self.time_per_step * change @ half_vector(start))


def _duplication(size: int) -> np.ndarray:
    """Matrix that maps the half vector of a symmetric matrix to the flattened matrix."""
    rows, columns = np.triu_indices(size)
    matrix = np.zeros((size * size, len(rows)))
    matrix[rows * size + columns, np.arange(len(rows))] = 1.0
    matrix[columns * size + rows, np.arange(len(rows))] = 1.0
    return matrix


def _on_symmetric(operator: np.ndarray) -> np.ndarray:
    """Restricts a map of flattened matrices that keeps symmetry to half vectors."""
    size = math.isqrt(len(operator))
    rows, columns = np.triu_indices(size)
    return (operator @ _duplication(size))[rows * size + columns]


def _kronecker_sum(matrix: np.ndarray) -> np.ndarray:
    """The map `S -> M S + S M^T` on flattened matrices."""
    identity = np.eye(len(matrix))
    return np.kron(matrix, identity) + np.kron(identity, matrix)


def half_vector(state: np.ndarray) -> np.ndarray:
    """Returns the half vector of the outer product of a state with itself."""
    return np.outer(state, state)[np.triu_indices(len(state))]


def unpack_moments(half_vectors: np.ndarray) -> Moments:
    """Returns the moments of z from half vectors of `E y y^T`, y = (1, z)."""
    size = (math.isqrt(8 * half_vectors.shape[-1] + 1) - 1) // 2
    full = half_vectors @ _duplication(size).T
    full = full.reshape(*half_vectors.shape[:-1], size, size)
    return Moments(full[..., 0, 1:], full[..., 1:, 1:])


def checked_learning_rate(learning_rate: float) -> float:
    """Returns the learning rate as a float; raises a `ValueError` unless it is > 0."""
    return finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)


def _checked_steps(steps: ArrayLike) -> np.ndarray:
    array = np.asarray(steps)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"`steps` must be integers >= 0. Received: steps={steps!r}")
    return array


def _checked_time(time: ArrayLike) -> np.ndarray:
    array = as_floats("time", time)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"`time` must be finite numbers >= 0. Received: time={time!r}")
    return array
