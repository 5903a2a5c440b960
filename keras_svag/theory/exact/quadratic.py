"""A quadratic loss with multiplicative noise, whose SDE is known exactly."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.exact.moments import (
    LinearDynamics,
    Moments,
    checked_learning_rate,
    unpack_moments,
)


class Quadratic(LinearDynamics):
    """A quadratic loss `x^T H x / 2` in d dimensions, with noise that depends on the weights.

    The covariance of the mini-batch gradient is `Sigma(x) = C + sum_k A_k x x^T A_k^T`, additive
    and multiplicative noise. The SDE is `dX = -H X dt + (eta Sigma(X))^(1/2) dW`. Its moments and
    those of SVAG (with `ell=1`, SGD) are exact, for any distribution of the noise. Methods take the
    start `x0`, an array of shape `(d,)`; `steps` and `time` are one number or an array.

    Args:
        hessian: H, a symmetric matrix of shape `(d, d)`.
        covariance: C, a symmetric positive semidefinite matrix of shape `(d, d)`.
        learning_rate: eta, a float > 0.
        multiplicative: The matrices A_k, an array of shape `(K, d, d)`. Defaults to `()`, none.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> quadratic = Quadratic(np.diag([1.0, 2.0]), np.eye(2), learning_rate=0.1)
    >>> quadratic.stationary_covariance()  # eta C H^-1 / 2
    array([[0.05 , 0.   ],
           [0.   , 0.025]])
    """

    def __init__(
        self,
        hessian: ArrayLike,
        covariance: ArrayLike,
        learning_rate: float,
        multiplicative: ArrayLike = (),
    ) -> None:
        self.hessian = _checked_symmetric("hessian", hessian)
        size = len(self.hessian)
        self.covariance = _checked_symmetric("covariance", covariance, size)
        eigenvalues = np.linalg.eigvalsh(self.covariance)
        if eigenvalues[0] < -1e-9 * max(eigenvalues[-1], 0.0):
            raise ValueError(
                "`covariance` must be positive semidefinite. Received a matrix with the "
                f"eigenvalue {eigenvalues[0]:.6g}: covariance={covariance!r}"
            )
        self.learning_rate = self.time_per_step = checked_learning_rate(learning_rate)
        self.multiplicative = _checked_matrices("multiplicative", multiplicative, size)

    def svag_moments(self, ell: float, x0: ArrayLike, steps: ArrayLike) -> Moments:
        """Returns the exact moments of SVAG."""
        return self._svag_moments(validate_ell(ell), self._initial_state(x0), steps)

    def sde_moments(self, x0: ArrayLike, time: ArrayLike) -> Moments:
        """Returns the exact moments of the SDE."""
        return self._sde_moments(self._initial_state(x0), time)

    def stationary_covariance(self) -> np.ndarray:
        """Returns the covariance `(d, d)` of the SDE at infinite time."""
        generator = self._generator()[1:]  # without the row of the constant 1
        growth = np.linalg.eigvals(generator[:, 1:]).real.max()
        if growth >= 0:
            raise ValueError(
                "The SDE has no stationary covariance: `hessian` must be positive definite and "
                "`learning_rate` small enough for the multiplicative noise. Received: "
                f"learning_rate={self.learning_rate}, for which second moments grow at the rate "
                f"{growth:.6g}. Use a smaller learning rate."
            )
        state = np.linalg.solve(generator[:, 1:], -generator[:, 0])
        return unpack_moments(np.concatenate([[1.0], state])).covariance

    def _initial_state(self, x0: ArrayLike) -> np.ndarray:
        x0 = np.asarray(x0, np.float64)
        if x0.shape != (len(self.hessian),) or not np.isfinite(x0).all():
            raise ValueError(
                f"`x0` must be {len(self.hessian)} finite numbers. Received: x0={x0!r}"
            )
        return np.concatenate([[1.0], x0])

    def _mean_step(self, h: float) -> np.ndarray:
        return linalg.block_diag(1.0, np.eye(len(self.hessian)) - h * self.hessian)

    def _noise(self, h: float) -> np.ndarray:
        additive = linalg.block_diag(0.0, self.covariance).ravel()
        one = np.zeros(len(additive))
        one[0] = 1.0  # the constant 1 is E 1 * 1
        matrices = [linalg.block_diag(0.0, matrix) for matrix in self.multiplicative]
        noise = np.outer(additive, one) + sum(np.kron(matrix, matrix) for matrix in matrices)
        return self.learning_rate * noise


def _checked_symmetric(name: str, matrix: ArrayLike, size: int | None = None) -> np.ndarray:
    array = np.array(matrix, np.float64)
    square = array.ndim == 2 and array.size and array.shape == array.T.shape
    if not square or not np.isfinite(array).all() or not np.allclose(array, array.T):
        raise ValueError(f"`{name}` must be a symmetric matrix. Received: {name}={matrix!r}")
    if size is not None and len(array) != size:
        raise ValueError(
            f"`{name}` must have {size} rows, like `hessian`. Received: {name}={matrix!r}"
        )
    return array


def _checked_matrices(name: str, matrices: ArrayLike, size: int) -> np.ndarray:
    array = np.array(matrices, np.float64)
    if array.size == 0:
        return np.zeros((0, size, size))
    if array.shape[1:] != (size, size) or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be an array of shape (K, {size}, {size}), K matrices of the size of "
            f"`hessian`. Received: {name} of shape {array.shape}: {matrices!r}"
        )
    return array
