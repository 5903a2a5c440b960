"""The SDE of SGD itself, to hold runs against: exact moments, and Gaussian noise for any network.

Li, Malladi, Arora (NeurIPS 2021, arXiv 2102.12470) model SGD by
`dX = -grad L dt + (eta Sigma(X))^(1/2) dW`. Where the gradient is linear in the weights, the first
two moments of SGD, of SVAG and of the SDE each follow a linear recursion or differential equation
and are known exactly (`LinearProblem`, `Quadratic`). For a network the SDE is simulated:
`gaussian_loss_weights` turns standard normals into weights of the examples, with which the full
gradient has Gaussian noise of the covariance of a mini-batch
(`keras_svag.gaussian_noise.GaussianNoiseLoop` trains with them).

`docs/theory_sde.md` derives every equation. NumPy and SciPy only.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

from keras_svag._checks import as_floats, finite_float, positive_int
from keras_svag.coefficients import validate_ell


class Moments(NamedTuple):
    """First and second moments of a random vector, at one time or at several.

    Attributes:
        mean: array of shape `(..., d)`.
        second: array of shape `(..., d, d)`, the mean of the outer product with itself.
    """

    mean: np.ndarray
    second: np.ndarray

    @property
    def covariance(self):
        """Covariance, an array of shape `(..., d, d)`."""
        return self.second - self.mean[..., :, None] * self.mean[..., None, :]


class _LinearDynamics:
    """Moments of a process whose mean is affine in its state and whose covariance is quadratic.

    For the extended state y = (1, z), one step over a time h is `y <- P(h) y + noise`, and the
    noise has mean zero and the covariance `h N(h)[y y^T]` given y, with N(h) linear in `y y^T`.
    So `S = E y y^T`, which holds all first and second moments, is mapped linearly to
    `P S P^T + h N(h)[S]`. Subclasses give P and N; both are polynomials in h of degree two.
    """

    # Continuous time of one SGD step; an SVAG step is `ell` times shorter.
    time_per_step: float

    def _mean_step(self, h):
        """P(h), a matrix (k, k); P(0) is the identity."""
        raise NotImplementedError

    def _noise(self, h):
        """N(h) as a matrix (k^2, k^2) on flattened matrices."""
        raise NotImplementedError

    def _recursion(self, h):
        mean_step = self._mean_step(h)
        return _on_symmetric(np.kron(mean_step, mean_step) + h * self._noise(h))

    def _generator(self):
        # Exact, not a difference quotient: P has no higher powers than the second.
        drift = (self._mean_step(1.0) - self._mean_step(-1.0)) / 2
        return _on_symmetric(_kronecker_sum(drift) + self._noise(0.0))

    def _second_order(self):
        """Coefficient of h^2 in the recursion (of h^0 and h^1: identity and generator)."""
        ahead, back = self._mean_step(1.0), self._mean_step(-1.0)
        drift, bend = (ahead - back) / 2, (ahead + back) / 2 - np.eye(len(ahead))
        noise = (self._noise(1.0) - self._noise(-1.0)) / 2
        return _on_symmetric(np.kron(drift, drift) + _kronecker_sum(bend) + noise)

    def _svag_moments(self, ell, start, steps):
        recursion = self._recursion(self.time_per_step / ell)
        steps = _checked_steps(steps)
        state, done, states = _half_vector(start), 0, {}
        for step in np.unique(steps):
            state = np.linalg.matrix_power(recursion, step - done) @ state
            states[step], done = state, step
        return _moments(np.array([states[s] for s in steps.flat]).reshape(*steps.shape, -1))

    def _sde_moments(self, start, time):
        exponent = _checked_time(time)[..., None, None] * self._generator()
        if not np.isfinite(exponent).all():
            raise ValueError(
                "`time` must be so short that time times the rates of the problem is a float. "
                f"Received: time={time!r}"
            )
        return _moments(linalg.expm(exponent) @ _half_vector(start))

    def _leading_error(self, start, time):
        time, generator = float(_checked_time(time)), self._generator()
        direction = self._second_order() - generator @ generator / 2
        change = linalg.expm_frechet(time * generator, time * direction, compute_expm=False)
        return tuple(_moments(self.time_per_step * change @ _half_vector(start)))


class LinearProblem(_LinearDynamics):
    """Losses `a_i x^2 / 2 + b_i x` over a table of examples: exact moments of SGD, SVAG and SDE.

    Examples are drawn with replacement. SGD as Keras does it, weight decay decoupled:
    `x <- x - eta lambda x - eta g(x)`. Without momentum its SDE is

    ```
    dX = -(grad L(X) + lambda X) dt + (eta Sigma(X))^(1/2) dW
    ```

    and one step takes the time `eta`. With momentum b > 0, `v <- b v - eta g(x)`,
    `x <- x - eta lambda x + v`, it is

    ```
    dV = -((1 - b) V + eta grad L(X)) dt + eta Sigma(X)^(1/2) dW
    dX = (V - eta lambda X) dt
    ```

    and one step takes the time 1. V is a velocity per unit of time: `V = ell v`, where v is what
    the optimizer of SVAG(ell) holds. See `time_per_step`.

    The state z of all moments is `(x,)` without momentum and `(x, V)` with it.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Args:
        a: one number per example, the curvatures.
        b: one number per example, the slopes at zero.
        learning_rate: eta of the SGD run that is modelled, a float > 0.
        weight_decay: lambda, a float >= 0, also that of the SGD run. Defaults to `0.0`.
        momentum: b, a float in [0, 1). Defaults to `0.0`. (0 is another limit than b -> 0.)
        batch_size: B, which divides the covariance of the gradient. Defaults to `1`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> problem = LinearProblem(a=[1.0, 1.0], b=[1.0, -1.0], learning_rate=0.5)
    >>> mean, second = problem.sgd_moments(x0=1.0, steps=1)
    >>> mean, second
    (array([0.5]), array([[0.5]]))
    >>> problem.sde_moments(x0=1.0, time=0.5).mean  # exp(-1/2)
    array([0.60653066])
    """

    def __init__(self, a, b, learning_rate, weight_decay=0.0, momentum=0.0, batch_size=1):
        self.a, self.b = _checked_table(a, b)
        self.learning_rate = _checked_learning_rate(learning_rate)
        self.weight_decay = finite_float("weight_decay", weight_decay, "a number >= 0", 0.0)
        self.momentum = _checked_momentum(momentum)
        self.batch_size = positive_int("batch_size", batch_size)

    @property
    def time_per_step(self):
        """Continuous time of one SGD step; SVAG's is `ell` times shorter.

        The learning rate without momentum; 1 with it (there the learning rate is in the SDE).
        """
        return 1.0 if self.momentum else self.learning_rate

    def sgd_moments(self, x0, steps, velocity=0.0):
        """Exact moments of SGD.

        Args:
            x0: start, a float.
            steps: number of steps, an int or an array of ints.
            velocity: V at the start, with momentum. Defaults to `0.0`.

        Returns:
            `Moments`, of shapes `(*steps.shape, d)` and `(*steps.shape, d, d)`.

        Raises:
            ValueError: if an argument is out of range.
        """
        return self.svag_moments(1.0, x0, steps, velocity)

    def svag_moments(self, ell, x0, steps, velocity=0.0):
        """Exact moments of SVAG.

        Args:
            ell: amplification, a float >= 0.5.
            x0: start, a float.
            steps: number of SVAG steps (`ell` times those of SGD), an int or an array of ints.
            velocity: V at the start, with momentum. Defaults to `0.0`.

        Returns:
            `Moments`, of shapes `(*steps.shape, d)` and `(*steps.shape, d, d)`.

        Raises:
            ValueError: if an argument is out of range, or `ell` so small that the momentum
                `1 - (1 - b) / ell` would not be positive.
        """
        ell = validate_ell(ell)
        if self.momentum and ell <= 1.0 - self.momentum:
            raise ValueError(
                f"`ell` must be above {1.0 - self.momentum:.6g} for a momentum of {self.momentum}, "
                "since 1 - b is divided by ell and b must stay above 0. "
                f"Received: ell={ell}. Use a larger ell."
            )
        return self._svag_moments(ell, self._start(x0, velocity), steps)

    def sde_moments(self, x0, time, velocity=0.0):
        """Exact moments of the SDE.

        Args:
            x0: start, a float.
            time: continuous time, a float >= 0 or an array; `time_per_step` times SGD steps.
            velocity: V at the start, with momentum. Defaults to `0.0`.

        Returns:
            `Moments`, of shapes `(*time.shape, d)` and `(*time.shape, d, d)`.

        Raises:
            ValueError: if an argument is out of range.
        """
        return self._sde_moments(self._start(x0, velocity), time)

    def leading_error(self, x0, time, velocity=0.0):
        """Limit of `l e(l)` for l -> infinity, with e(l) the moments of SVAG(l) less the SDE's.

        Where it is zero, or small beside the terms of higher order, the observed order of e(l) is
        not 1.

        Args:
            x0: start, a float.
            time: continuous time, a float >= 0.
            velocity: V at the start, with momentum. Defaults to `0.0`.

        Returns:
            A tuple of arrays `(mean, second)`, of shapes `(d,)` and `(d, d)`.

        Raises:
            ValueError: if an argument is out of range.
        """
        return self._leading_error(self._start(x0, velocity), time)

    def _start(self, x0, velocity):
        x0 = finite_float("x0", x0, "a finite number")
        velocity = finite_float("velocity", velocity, "a finite number")
        if not self.momentum and velocity:
            raise ValueError(
                "`velocity` must be 0 without momentum: there is none. "
                f"Received: velocity={velocity}. Set `momentum`."
            )
        return np.array([1.0, x0, velocity] if self.momentum else [1.0, x0])

    def _gradient_covariance(self):
        """Covariance of (b, a), with replacement: the order in which y = (1, x, ...) has them."""
        return np.cov(np.stack([self.b, self.a]), bias=True) / self.batch_size

    def _mean_step(self, h):
        gradient, decay = np.array([self.b.mean(), self.a.mean()]), self.weight_decay
        if not self.momentum:
            step = np.eye(2)
            step[1] -= h * (gradient + [0.0, decay])
            return step
        rate, step = self.learning_rate, np.eye(3)
        step[2] -= h * np.array([*rate * gradient, 1.0 - self.momentum])
        # The new velocity moves x, the old x decays.
        step[1] += h * step[2] - [0.0, h * rate * decay, 0.0]
        return step

    def _noise(self, h):
        rate = self.learning_rate
        covariance = np.zeros((3, 3) if self.momentum else (2, 2))
        covariance[:2, :2] = self._gradient_covariance()
        # In the velocity the noise is eta^2 Sigma per unit of time; x has its share one h later.
        direction = rate * np.array([0.0, h, 1.0]) if self.momentum else [0.0, math.sqrt(rate)]
        return np.outer(np.kron(direction, direction), covariance)


class Quadratic(_LinearDynamics):
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
        self.learning_rate = _checked_learning_rate(learning_rate)
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
        return _moments(np.concatenate([[1.0], state])).covariance

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


def gaussian_loss_weights(normals, batch_size, noise_steps=1):
    """Weights of the examples' losses that give the full gradient the noise of a mini-batch.

    `w_i = 1 + sqrt(m n / B) (z_i - mean z)`: the gradient of the weighted mean loss,
    `1/n sum_i w_i g_i`, is Gaussian with the mean `grad L` and exactly m times the covariance of
    a mini-batch of B examples drawn with replacement. With steps of `eta / m` this is

    - m = 1: the noisy gradient descent of Li, Malladi, Arora 2021 (arXiv 2102.12470), SGD with
      Gaussian noise of the same covariance,
    - m > 1: the Euler-Maruyama simulation of the SDE of SGD with the time step `eta / m`, whose
      error is of order 1/m. For the truth about SVAG(l), m must be much larger than l: at m = l
      both have the same mean and covariance in every step.

    Args:
        normals: array of shape `(..., n)`, standard normal numbers, one per example.
        batch_size: B, the batch size of the SGD run that is modelled.
        noise_steps: m, steps in the time of one SGD step, a number > 0. Defaults to `1`.

    Returns:
        A float64 array like `normals`; the mean over the last axis is 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> gaussian_loss_weights([1.0, -1.0], batch_size=2, noise_steps=4)
    array([ 3., -1.])
    """
    normals = as_floats("normals", normals)
    if normals.ndim == 0 or normals.shape[-1] == 0:
        raise ValueError(
            "`normals` must have one number per example along its last axis. "
            f"Received: normals of shape {normals.shape}"
        )
    batch_size = positive_int("batch_size", batch_size)
    noise_steps = finite_float("noise_steps", noise_steps, "a number > 0", 0.0, exclusive=True)
    scale = math.sqrt(noise_steps * normals.shape[-1] / batch_size)
    return 1.0 + scale * (normals - normals.mean(axis=-1, keepdims=True))


def standard_normals(count, seed, start, stop):
    """Standard normal numbers for steps of a run, a pure function of seed and step.

    Any step's numbers can be had without those before it. They do not depend on the batches that
    `keras_svag.datasets.Sampler` draws from the same seed.

    Args:
        count: numbers per step, one for each example.
        seed: int >= 0.
        start: first step, counted from 0.
        stop: the step after the last.

    Returns:
        A float64 array of shape `(stop - start, count)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> whole = standard_normals(3, seed=1, start=0, stop=8)
    >>> bool((standard_normals(3, seed=1, start=5, stop=8) == whole[5:]).all())
    True
    """
    count = positive_int("count", count)
    seed = positive_int("seed", seed, minimum=0)
    start = positive_int("start", start, minimum=0)
    stop = positive_int("stop", stop, minimum=start)
    rows = [_step_generator(seed, step).standard_normal(count) for step in range(start, stop)]
    return np.array(rows).reshape(stop - start, count)


def _step_generator(seed, step):
    # The sampler's counters start at zero and never come near 2^192.
    key, counter = np.array([seed, step], np.uint64), np.array([0, 0, 0, 1], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


# Symmetric matrices as half vectors: the entries on and above the diagonal, row by row. For
# y = (1, x) these are the moments (1, E x, E x^2).


def _duplication(size):
    """The matrix that makes a flattened symmetric matrix of its half vector."""
    rows, columns = np.triu_indices(size)
    matrix = np.zeros((size * size, len(rows)))
    matrix[rows * size + columns, np.arange(len(rows))] = 1.0
    matrix[columns * size + rows, np.arange(len(rows))] = 1.0
    return matrix


def _on_symmetric(operator):
    """A map of flattened matrices (that keeps symmetry) as a map of half vectors."""
    size = math.isqrt(len(operator))
    rows, columns = np.triu_indices(size)
    return (operator @ _duplication(size))[rows * size + columns]


def _kronecker_sum(matrix):
    """`S -> M S + S M^T` on flattened matrices."""
    identity = np.eye(len(matrix))
    return np.kron(matrix, identity) + np.kron(identity, matrix)


def _half_vector(state):
    return np.outer(state, state)[np.triu_indices(len(state))]


def _moments(half_vectors):
    """`Moments` of z from half vectors of `E y y^T`, y = (1, z)."""
    size = (math.isqrt(8 * half_vectors.shape[-1] + 1) - 1) // 2
    full = half_vectors @ _duplication(size).T
    full = full.reshape(*half_vectors.shape[:-1], size, size)
    return Moments(full[..., 0, 1:], full[..., 1:, 1:])


def _checked_table(a, b):
    a, b = as_floats("a", a).copy(), as_floats("b", b).copy()
    if a.ndim != 1 or a.shape != b.shape or not len(a) or not np.isfinite([a, b]).all():
        raise ValueError(
            f"`a` and `b` must each hold one finite number per example. Received: a={a!r}, b={b!r}"
        )
    return a, b


def _checked_learning_rate(learning_rate):
    return finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)


def _checked_momentum(momentum):
    value = finite_float("momentum", momentum, "a number in [0, 1)", 0.0)
    if value >= 1:
        raise ValueError(f"`momentum` must be a number in [0, 1). Received: momentum={momentum!r}")
    return value


def _checked_steps(steps):
    array = np.asarray(steps)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"`steps` must be integers >= 0. Received: steps={steps!r}")
    return array


def _checked_time(time):
    array = as_floats("time", time)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"`time` must be finite numbers >= 0. Received: time={time!r}")
    return array


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
