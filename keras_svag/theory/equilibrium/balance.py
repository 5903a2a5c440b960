"""Identities of R with N, G and weight decay; `docs/theory.md` derives them."""

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import as_floats, finite_float
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.quantities import Value
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_of_means, t_interval


def equilibrium_weight_norm(
    noise: Value, signal: Value, learning_rate: float, weight_decay: float, ell: float = 1.0
) -> Value:
    """R at which noise, signal and weight decay balance, if the loss is scale invariant.

    `(2 lambda - eta lambda^2/ell) R = eta (G/ell + N)`, in equilibrium and without momentum.

    Args:
        noise: N as logged, a float or an array of any shape.
        signal: G as logged, of the same shape.
        learning_rate: eta of the SGD run.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regularizer.
        ell: Amplification; `math.inf` for the SDE. Defaults to `1.0`.

    Returns:
        A float or an array, like `noise`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> round(equilibrium_weight_norm(4.0, 2.0, 0.1, 5e-3, ell=math.inf), 9)
    40.0
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    ell = ell if ell == math.inf else validate_ell(ell)
    contraction = decay * (2 - eta * decay / ell)
    if not contraction > 0:
        raise ValueError(
            "`learning_rate * weight_decay / ell` must be below 2, or weight decay makes the "
            f"weights grow. Received: learning_rate={eta}, weight_decay={decay}, ell={ell}"
        )
    return eta * (signal / ell + noise) / contraction


def heavy_ball_weight_norm(
    velocity_norm: Value, learning_rate: float, weight_decay: float, momentum: float
) -> Value:
    """R at which the velocity and weight decay balance, if the loss is scale invariant.

    `(2 eta lambda - eta^2 lambda^2) R = E|v|^2 (1 + k) / (1 - k)` with `k = (1 - eta lambda) b`, in
    equilibrium of the heavy ball of Keras: `v <- b v - eta g`, `x <- (1 - eta lambda) x + v`. It is
    exact, and at `b = 0`, where `v = -eta g`, that of `equilibrium_weight_norm`. Nesterov momentum
    has another balance.

    Args:
        velocity_norm: `|v|^2` summed over the momentum buffers, as logged (`velocity_norm`), a
            float or an array of any shape.
        learning_rate: eta.
        weight_decay: lambda > 0.
        momentum: b, in [0, 1).

    Returns:
        A float or an array, like `velocity_norm`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> round(heavy_ball_weight_norm(2.0, 0.1, 0.5, momentum=0.9), 6)
    262.422635
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    b = finite_float("momentum", momentum, "a number in [0, 1)", 0.0)
    if not (b < 1 and eta * decay < 1):
        raise ValueError(
            "`momentum` and `learning_rate * weight_decay` must be below 1. Received: "
            f"momentum={b}, learning_rate={eta}, weight_decay={decay}"
        )
    k = (1 - eta * decay) * b
    return velocity_norm * (1 + k) / ((1 - k) * eta * decay * (2 - eta * decay))


def weight_norm_imbalance(
    weight_norm: ArrayLike,
    noise: ArrayLike,
    signal: ArrayLike,
    steps: ArrayLike,
    learning_rate: ArrayLike,
    weight_decay: float,
    ell: float = 1.0,
    radial_gradient: ArrayLike = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Change of R that N, G and weight decay do not account for.

    One step with Keras' weight decay is `x' = (1 - h lambda) x - h g` with `h = eta/ell`, so

    `E R' = (1 - h lambda)^2 R + h^2 (G + ell N) - 2 h (1 - h lambda) <x, grad L>`,

    where the last term is zero if the loss is scale invariant. This is summed over m segments of a
    run, in equilibrium or not. An imbalance means that the loss is not scale invariant, or that
    there is momentum, clipping, another weight decay, or weights without decay.

    Args:
        weight_norm: R at the ends of the segments, m + 1 numbers.
        noise: Mean of N over each segment, as logged; one number or m.
        signal: Mean of G over each segment, likewise.
        steps: Number of steps of each segment, few compared with `ell/(2 eta lambda)`.
        learning_rate: eta of the SGD run, one number or m.
        weight_decay: lambda >= 0; twice the factor of a Keras `L2` regularizer.
        ell: Amplification. Defaults to `1.0`.
        radial_gradient: Mean of `<x, grad L>` over each segment. Defaults to `0.0`.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the imbalance, relative to what the gradients add to R.

    Raises:
        ValueError: If the lengths differ or a hyperparameter is out of range.

    Example:

    >>> imbalance = weight_norm_imbalance([1.0, 1.25, 1.5], 4.0, 1.0, 1, 0.5, 0.0)
    >>> imbalance.mean  # R grows by 0.25, not by 0.5^2 (G + N) = 1.25
    -0.8
    """
    norm = as_floats("weight_norm", weight_norm)
    if norm.ndim != 1 or not len(norm):
        raise ValueError(
            "`weight_norm` must be a list of numbers, one more than there are segments. "
            f"Received: weight_norm of shape {norm.shape}"
        )
    count = len(norm) - 1
    noise = _per_segment("noise", noise, count)
    signal = _per_segment("signal", signal, count)
    steps = _per_segment("steps", steps, count)
    eta = _per_segment("learning_rate", learning_rate, count)
    radial = _per_segment("radial_gradient", radial_gradient, count)
    ell = validate_ell(ell)
    decay = finite_float("weight_decay", weight_decay, "a number >= 0", 0.0)
    step = eta / ell
    if not (0 < step * max(decay, 1e-30)).all() or not (step * decay < 1).all():
        raise ValueError(
            "`learning_rate` must be positive and `learning_rate * weight_decay / ell` below 1. "
            f"Received: learning_rate={learning_rate!r}, weight_decay={weight_decay}, ell={ell}"
        )
    log_shrink = 2 * np.log1p(-step * decay)  # of R, in one step
    one_minus_shrink = step * decay * (2 - step * decay)
    with np.errstate(invalid="ignore"):
        # Sum of shrink^j over the steps of a segment.
        total = np.where(decay, -np.expm1(log_shrink * steps) / one_minus_shrink, steps)
    gain = step**2 * (signal + ell * noise) * total
    radial_gain = 2 * step * (1 - step * decay) * radial * total
    excess = norm[1:] - np.exp(log_shrink * steps) * norm[:-1] - gain + radial_gain
    return _ratio_of_sums(excess, gain, confidence)


def _per_segment(name: str, value: ArrayLike, count: int) -> np.ndarray:
    array = as_floats(name, value)
    if array.shape not in ((), (count,)):
        raise ValueError(
            f"`{name}` must be a number or one for each of the {count} segments between the "
            f"{count + 1} values of `weight_norm`. Received: {name} of shape {array.shape}"
        )
    return np.broadcast_to(array, (count,))


def _ratio_of_sums(top: np.ndarray, bottom: np.ndarray, confidence: float) -> Interval:
    # `top` is a sum of martingale differences, uncorrelated between segments: Student's interval.
    count, total = len(top), bottom.sum()
    ratio = float(top.sum() / total) if total > 0 else math.nan
    if count < 2 or not total > 0:
        return Interval(ratio, -math.inf, math.inf)
    # The delta method will do, since the relative error of `bottom` is far below that of `top`.
    variance = count / (count - 1) * np.sum((top - ratio * bottom) ** 2)
    return t_interval(ratio, math.sqrt(variance) / total, count - 1, confidence)


def with_weight_decay(
    radial_gradient: float, signal: float, weight_norm: float, weight_decay: float
) -> tuple[float, float]:
    """Adds weight decay to `<x, grad L>` and G of the loss.

    Args:
        radial_gradient: `<x, grad L>` of the loss alone.
        signal: G of the loss alone, corrected for sampling.
        weight_norm: R.
        weight_decay: lambda.

    Returns:
        A tuple `(<x, grad L + lambda x>, |grad L + lambda x|^2)`.

    Example:

    >>> with_weight_decay(1.0, 2.0, 10.0, 0.5)
    (6.0, 5.5)
    """
    total_signal = signal + 2 * weight_decay * radial_gradient + weight_decay**2 * weight_norm
    return radial_gradient + weight_decay * weight_norm, total_signal


def yaida_ratio(
    radial_gradient: ArrayLike,
    noise: ArrayLike,
    signal: ArrayLike,
    learning_rate: float,
    ell: float = 1.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Ratio of the sides of Yaida's relation `<x, grad L> = (eta/2) E |g|^2`, 1 in equilibrium.

    It holds for any loss whose R is stationary, without momentum; under amplification the
    right-hand side is `(eta/2) (G/ell + N)` ([Yaida, 2018](https://arxiv.org/abs/1810.00004)).

    Args:
        radial_gradient: `<x, grad L>`, one number per seed, with decay (`with_weight_decay`).
        noise: N of the same runs.
        signal: G of the same runs, with decay.
        learning_rate: eta of the SGD run.
        ell: Amplification. Defaults to `1.0`.
        confidence: Confidence of the interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the ratio of the left-hand side to the right-hand side.

    Raises:
        ValueError: If a hyperparameter is out of range.

    Example:

    >>> yaida_ratio([1.0, 1.0], noise=[3.0, 3.0], signal=[1.0, 1.0], learning_rate=0.5).mean
    1.0
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    right = eta / 2 * (np.asarray(signal, float) / validate_ell(ell) + np.asarray(noise, float))
    return ratio_of_means(radial_gradient, right, confidence)
