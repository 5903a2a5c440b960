"""A problem in one dimension, with examples and momentum, whose SDE is known exactly."""

import math

import numpy as np

from keras_svag._checks import as_floats, finite_float, positive_int
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.exact.moments import LinearDynamics, checked_learning_rate


class LinearProblem(LinearDynamics):
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
        self.learning_rate = checked_learning_rate(learning_rate)
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


def _checked_table(a, b):
    a, b = as_floats("a", a).copy(), as_floats("b", b).copy()
    if a.ndim != 1 or a.shape != b.shape or not len(a) or not np.isfinite([a, b]).all():
        raise ValueError(
            f"`a` and `b` must each hold one finite number per example. Received: a={a!r}, b={b!r}"
        )
    return a, b


def _checked_momentum(momentum):
    value = finite_float("momentum", momentum, "a number in [0, 1)", 0.0)
    if value >= 1:
        raise ValueError(f"`momentum` must be a number in [0, 1). Received: momentum={momentum!r}")
    return value
