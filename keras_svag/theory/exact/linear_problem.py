"""A one-dimensional problem with examples and momentum, whose SDE is known exactly."""

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import as_floats, finite_float, positive_int
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.exact.moments import LinearDynamics, Moments, checked_learning_rate


class LinearProblem(LinearDynamics):
    """Losses `a_i x^2 / 2 + b_i x` of a table of examples, drawn with replacement.

    The moments of SGD, SVAG and the SDE are exact ([Li, Malladi, Arora,
    2021](https://arxiv.org/abs/2102.12470)). The SDE of Keras' SGD with decoupled weight decay is

    ```
    dX = -(grad L(X) + lambda X) dt + (eta Sigma(X))^(1/2) dW
    ```

    where one step takes the time `eta`; with momentum b > 0 one step takes the time 1, and it is

    ```
    dV = -((1 - b) V + eta grad L(X)) dt + eta Sigma(X)^(1/2) dW
    dX = (V - eta lambda X) dt
    ```

    V is `ell` times the velocity of the SVAG(ell) optimizer. Methods take `x0` and `velocity` as
    floats, and `steps` (of SVAG, `ell` times those of SGD) or `time` as a number or an array. They
    return `Moments` of the state `(x,)`, or with momentum `(x, V)`.

    Args:
        a: One number per example, the curvatures.
        b: One number per example, the slopes at zero.
        learning_rate: eta of the SGD run, a float > 0.
        weight_decay: lambda of the SGD run, a float >= 0. Defaults to `0.0`.
        momentum: b, a float in [0, 1); 0 is not the limit b -> 0. Defaults to `0.0`.
        batch_size: B, which divides the covariance of the gradient. Defaults to `1`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> problem = LinearProblem(a=[1.0, 1.0], b=[1.0, -1.0], learning_rate=0.5)
    >>> mean, second = problem.sgd_moments(x0=1.0, steps=1)
    >>> mean, second
    (array([0.5]), array([[0.5]]))
    >>> problem.sde_moments(x0=1.0, time=0.5).mean  # exp(-1/2)
    array([0.60653066])
    """

    def __init__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        learning_rate: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        batch_size: int = 1,
    ) -> None:
        self.a, self.b = _checked_table(a, b)
        self.learning_rate = checked_learning_rate(learning_rate)
        self.weight_decay = finite_float("weight_decay", weight_decay, "a number >= 0", 0.0)
        self.momentum = finite_float("momentum", momentum, "a number in [0, 1)", 0.0)
        if self.momentum >= 1:
            raise ValueError(
                f"`momentum` must be a number in [0, 1). Received: momentum={momentum!r}"
            )
        self.batch_size = positive_int("batch_size", batch_size)
        # With momentum, the learning rate is in the SDE.
        self.time_per_step = 1.0 if self.momentum else self.learning_rate

    def sgd_moments(self, x0: float, steps: ArrayLike, velocity: float = 0.0) -> Moments:
        """Returns the exact moments of SGD."""
        return self.svag_moments(1.0, x0, steps, velocity)

    def svag_moments(
        self, ell: float, x0: float, steps: ArrayLike, velocity: float = 0.0
    ) -> Moments:
        """Returns the exact moments of SVAG; with momentum b, `ell` must be above `1 - b`."""
        ell = validate_ell(ell)
        if self.momentum and ell <= 1.0 - self.momentum:
            raise ValueError(
                f"`ell` must be above {1.0 - self.momentum:.6g} for a momentum of {self.momentum}, "
                "since 1 - b is divided by ell and b must stay above 0. "
                f"Received: ell={ell}. Use a larger ell."
            )
        return self._svag_moments(ell, self._initial_state(x0, velocity), steps)

    def sde_moments(self, x0: float, time: ArrayLike, velocity: float = 0.0) -> Moments:
        """Returns the exact moments of the SDE; `time` is `time_per_step` times SGD steps."""
        return self._sde_moments(self._initial_state(x0, velocity), time)

    def leading_error(self, x0: float, time: float, velocity: float = 0.0) -> Moments:
        """Returns the limit of `l e(l)`, l -> infinity of the error of the moments."""
        return self._leading_error(self._initial_state(x0, velocity), time)

    def _initial_state(self, x0: float, velocity: float) -> np.ndarray:
        x0 = finite_float("x0", x0, "a finite number")
        velocity = finite_float("velocity", velocity, "a finite number")
        if not self.momentum and velocity:
            raise ValueError(
                "`velocity` must be 0 without momentum. "
                f"Received: velocity={velocity}. Set `momentum`."
            )
        return np.array([1.0, x0, velocity] if self.momentum else [1.0, x0])

    def _gradient_covariance(self) -> np.ndarray:
        # Of (b, a): their order in y = (1, x, ...).
        return np.cov(np.stack([self.b, self.a]), bias=True) / self.batch_size

    def _mean_step(self, h: float) -> np.ndarray:
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

    def _noise(self, h: float) -> np.ndarray:
        rate = self.learning_rate
        covariance = np.zeros((3, 3) if self.momentum else (2, 2))
        covariance[:2, :2] = self._gradient_covariance()
        # In the velocity the noise is eta^2 Sigma per unit of time; it reaches x one h later.
        direction = rate * np.array([0.0, h, 1.0]) if self.momentum else [0.0, math.sqrt(rate)]
        return np.outer(np.kron(direction, direction), covariance)


def _checked_table(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    table_a, table_b = as_floats("a", a).copy(), as_floats("b", b).copy()
    fits = table_a.ndim == 1 and table_a.shape == table_b.shape and len(table_a)
    if not fits or not np.isfinite([table_a, table_b]).all():
        raise ValueError(
            f"`a` and `b` must each hold one finite number per example. Received: a={a!r}, b={b!r}"
        )
    return table_a, table_b
