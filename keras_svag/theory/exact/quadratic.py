"""A quadratic loss in several dimensions, with multiplicative noise, whose SDE is known exactly."""

import numpy as np
from scipy import linalg

from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.exact.moments import LinearDynamics, checked_learning_rate, unpack_moments


class Quadratic(LinearDynamics):
    """A quadratic loss `x^T H x / 2` in d dimensions with noise that depends on the weights.

    The covariance of the mini-batch gradient is `Sigma(x) = C + sum_k A_k x x^T A_k^T`: a
    constant part and multiplicative noise. The moments are those of any gradient noise with this
    covariance.

    Args:
        hessian: H, a symmetric matrix `(d, d)`.
        covariance: C, a symmetric positive semidefinite matrix `(d, d)`.
        learning_rate: eta, a float > 0.
        multiplicative: the matrices A_k, an array `(K, d, d)`. Defaults to none.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> quadratic = Quadratic(np.diag([1.0, 2.0]), np.eye(2), learning_rate=0.1)
    >>> quadratic.stationary_covariance()  # eta C H^-1 / 2
    array([[0.05 , 0.   ],
           [0.   , 0.025]])
    """

    def __init__(self, hessian, covariance, learning_rate, multiplicative=()):
        self.hessian = _checked_symmetric("hessian", hessian)
        size = len(self.hessian)
        self.covariance = _checked_symmetric("covariance", covariance, size)
        spread = np.linalg.eigvalsh(self.covariance)
        if spread[0] < -1e-9 * max(spread[-1], 0.0):
            raise ValueError(
                "`covariance` must be positive semidefinite. Received a matrix with the "
                f"eigenvalue {spread[0]:.6g}: covariance={covariance!r}"
            )
        self.learning_rate = checked_learning_rate(learning_rate)
        self.multiplicative = _checked_matrices("multiplicative", multiplicative, size)

    @property
    def time_per_step(self):
        """Continuous time of one SGD step; SVAG's is `ell` times shorter."""
        return self.learning_rate

    def svag_moments(self, ell, x0, steps):
        """Exact moments of SVAG; with `ell=1`, of SGD.

        Args:
            ell: amplification, a float >= 0.5.
            x0: start, an array `(d,)`.
            steps: number of SVAG steps, an int or an array of ints.

        Returns:
            `Moments`, of shapes `(*steps.shape, d)` and `(*steps.shape, d, d)`.

        Raises:
            ValueError: if an argument is out of range.
        """
        return self._svag_moments(validate_ell(ell), self._start(x0), steps)

    def sde_moments(self, x0, time):
        """Exact moments of `dX = -H X dt + (eta Sigma(X))^(1/2) dW`.

        Args:
            x0: start, an array `(d,)`.
            time: continuous time, a float >= 0 or an array.

        Returns:
            `Moments`, of shapes `(*time.shape, d)` and `(*time.shape, d, d)`.

        Raises:
            ValueError: if an argument is out of range.
        """
        return self._sde_moments(self._start(x0), time)

    def stationary_covariance(self):
        """Covariance of the SDE after a long time, whatever its start.

        Returns:
            An array `(d, d)`.

        Raises:
            ValueError: if there is none: a direction without positive curvature, or multiplicative
                noise that grows faster than the curvature contracts.
        """
        generator = self._generator()[1:]  # the first component is the constant 1
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

    def _start(self, x0):
        x0 = np.asarray(x0, np.float64)
        if x0.shape != (len(self.hessian),) or not np.isfinite(x0).all():
            raise ValueError(
                f"`x0` must be {len(self.hessian)} finite numbers. Received: x0={x0!r}"
            )
        return np.concatenate([[1.0], x0])

    def _mean_step(self, h):
        return linalg.block_diag(1.0, np.eye(len(self.hessian)) - h * self.hessian)

    def _noise(self, h):
        additive = linalg.block_diag(0.0, self.covariance).ravel()
        one = np.zeros(len(additive))
        one[0] = 1.0  # the constant 1 is E 1 * 1
        matrices = [linalg.block_diag(0.0, matrix) for matrix in self.multiplicative]
        noise = np.outer(additive, one) + sum(np.kron(matrix, matrix) for matrix in matrices)
        return self.learning_rate * noise


def _checked_symmetric(name, matrix, size=None):
    array = np.array(matrix, np.float64)
    square = array.ndim == 2 and array.size and array.shape == array.T.shape
    if not square or not np.isfinite(array).all() or not np.allclose(array, array.T):
        raise ValueError(f"`{name}` must be a symmetric matrix. Received: {name}={matrix!r}")
    if size is not None and len(array) != size:
        raise ValueError(
            f"`{name}` must have {size} rows, like `hessian`. Received: {name}={matrix!r}"
        )
    return array


def _checked_matrices(name, matrices, size):
    array = np.array(matrices, np.float64)
    if array.size == 0:
        return np.zeros((0, size, size))
    if array.shape[1:] != (size, size) or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be an array of shape (K, {size}, {size}), K matrices of the size of "
            f"`hessian`. Received: {name} of shape {array.shape}: {matrices!r}"
        )
    return array
