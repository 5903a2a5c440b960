"""Identities of R with N, G and weight decay, in equilibrium and step by step.

Derivations are in `docs/theory.md`. The relation of gradients and weights is Yaida's (arXiv
1810.00004).
"""

import math

import numpy as np

from keras_svag._checks import as_floats, finite_float
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_of_means, t_interval


def equilibrium_weight_norm(noise, signal, learning_rate, weight_decay, ell=1.0):
    """R that noise and signal keep up against weight decay, if the loss is scale invariant.

    `(2 lambda - eta lambda^2/ell) R = eta (G/ell + N)`, in equilibrium and with momentum 0.

    Args:
        noise: N, as logged; a number or an array.
        signal: G, as logged, likewise.
        learning_rate: eta, of the SGD run that is modelled.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regulariser.
        ell: amplification; `math.inf` for the SDE, whose R is `eta N / (2 lambda)`. Defaults to
            `1.0`.

    Returns:
        A number or an array.

    Raises:
        ValueError: if an argument is out of range.

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
            "`learning_rate * weight_decay / ell` must be below 2: weight decay alone would make "
            f"the weights grow. Received: learning_rate={eta}, weight_decay={decay}, ell={ell}"
        )
    return eta * (signal / ell + noise) / contraction


def weight_norm_imbalance(
    weight_norm,
    noise,
    signal,
    steps,
    learning_rate,
    weight_decay,
    ell=1.0,
    radial_gradient=0.0,
    confidence=CONFIDENCE,
):
    """Distance of the change of R from what N, G and weight decay account for.

    One step with Keras' weight decay is `x' = (1 - h lambda) x - h g` with `h = eta/ell`, so

    `E R' = (1 - h lambda)^2 R + h^2 (G + ell N) - 2 h (1 - h lambda) <x, grad L>`,

    where the last term is zero if the loss is scale invariant. This is summed over stretches of
    a run, in equilibrium or not: drift is on both sides. An imbalance means that the loss is not
    scale invariant (or that momentum, clipping, another weight decay, or weights without decay are
    at work). What remains at random is a sum of martingale differences, uncorrelated from stretch
    to stretch, so the interval is Student's over stretches.

    Args:
        weight_norm: R at the ends of m stretches: m + 1 numbers.
        noise: N, mean over each of the m stretches, as logged (no correction for sampling).
        signal: G, likewise.
        steps: number of steps of each stretch. They should be short against `ell/(2 eta lambda)`
            steps, since N and G are taken as constant over a stretch.
        learning_rate: eta, of the SGD run that is modelled; a number or one for each stretch.
        weight_decay: lambda >= 0; twice the factor of a Keras `L2` regulariser.
        ell: amplification. A step of plain SGD on the whole batch of 2B examples at learning rate
            h is `ell=0.5, learning_rate=h/2`. Defaults to `1.0`.
        radial_gradient: `<x, grad L>`, a number or the mean over each stretch; see
            `keras_svag.trainer.noise.radial_gradient`. Defaults to `0.0`, as scale invariance has
            it.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the imbalance, as a fraction of what the gradients add to R: about
        `-2 <x, grad L> / (h (G + ell N))` where the loss is not scale invariant and
        `radial_gradient` was left at zero.

    Raises:
        ValueError: if lengths do not fit or a hyperparameter is out of range.
    """
    norm = as_floats("weight_norm", weight_norm)
    if norm.ndim != 1 or not len(norm):
        raise ValueError(
            "`weight_norm` must be a list of numbers, one more than there are stretches. "
            f"Received: weight_norm of shape {norm.shape}"
        )
    count = len(norm) - 1
    noise, signal, steps, eta, radial = (
        _per_stretch(name, value, count)
        for name, value in [
            ("noise", noise),
            ("signal", signal),
            ("steps", steps),
            ("learning_rate", learning_rate),
            ("radial_gradient", radial_gradient),
        ]
    )
    ell = validate_ell(ell)
    decay = finite_float("weight_decay", weight_decay, ">= 0", 0.0)
    step = eta / ell
    if not (0 < step * max(decay, 1e-30)).all() or not (step * decay < 1).all():
        raise ValueError(
            "`learning_rate` must be positive and `learning_rate * weight_decay / ell` below 1. "
            f"Received: learning_rate={learning_rate}, weight_decay={weight_decay}, ell={ell}"
        )
    log_shrink = 2 * np.log1p(-step * decay)  # of R, in one step
    one_minus_shrink = step * decay * (2 - step * decay)
    with np.errstate(invalid="ignore"):
        # Sum of shrink^j over the steps of a stretch.
        total = np.where(decay, -np.expm1(log_shrink * steps) / one_minus_shrink, steps)
    gain = step**2 * (signal + ell * noise) * total
    radial_gain = 2 * step * (1 - step * decay) * radial * total
    excess = norm[1:] - np.exp(log_shrink * steps) * norm[:-1] - gain + radial_gain
    return _ratio_of_sums(excess, gain, confidence)


def _per_stretch(name, value, count):
    value = as_floats(name, value)
    if value.shape not in ((), (count,)):
        raise ValueError(
            f"`{name}` must be a number or one for each of the {count} stretches between the "
            f"{count + 1} values of `weight_norm`. Received: {name} of shape {value.shape}"
        )
    return np.broadcast_to(value, (count,))


def _ratio_of_sums(top, bottom, confidence):
    count, total = len(top), bottom.sum()
    ratio = float(top.sum() / total) if total > 0 else math.nan
    if count < 2 or not total > 0:
        return Interval(ratio, -math.inf, math.inf)
    # The sum of `bottom` is known far better than that of `top`: the delta method does.
    variance = count / (count - 1) * np.sum((top - ratio * bottom) ** 2)
    return t_interval(ratio, math.sqrt(variance) / total, count - 1, confidence)


def with_weight_decay(radial_gradient, signal, weight_norm, weight_decay):
    """Turns `<x, grad L>` and G of the loss into those of the loss with its weight decay.

    Args:
        radial_gradient: `<x, grad L>` of the loss alone.
        signal: G of the loss alone, corrected for sampling.
        weight_norm: R.
        weight_decay: lambda.

    Returns:
        A tuple: `<x, grad L + lambda x>` and `|grad L + lambda x|^2`.

    Example:

    >>> with_weight_decay(1.0, 2.0, 10.0, 0.5)
    (6.0, 5.5)
    """
    total_signal = signal + 2 * weight_decay * radial_gradient + weight_decay**2 * weight_norm
    return radial_gradient + weight_decay * weight_norm, total_signal


def yaida_ratio(radial_gradient, noise, signal, learning_rate, ell=1.0, confidence=CONFIDENCE):
    """Yaida's relation `<x, grad L> = (eta/2) E |g|^2` as a ratio that is 1 in equilibrium.

    It holds for any loss, scale invariant or not, where R is stationary; gradients are of the loss
    with its weight decay (`with_weight_decay`), momentum is 0. Under amplification the right-hand
    side is `(eta/2) (G/ell + N)`. A ratio away from 1 is drift of R, which the relation cannot
    tell from anything else: `weight_norm_imbalance` can.

    Args:
        radial_gradient: `<x, grad L>` with decay: one number per seed, or per batch of a long run.
        noise: N of the same runs.
        signal: G with decay of the same runs.
        learning_rate: eta, of the SGD run that is modelled.
        ell: amplification. Defaults to `1.0`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the ratio of the left-hand side to the right-hand side.

    Raises:
        ValueError: if a hyperparameter is out of range.

    Example:

    >>> yaida_ratio([1.0, 1.0], noise=[3.0, 3.0], signal=[1.0, 1.0], learning_rate=0.5).mean
    1.0
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    right = eta / 2 * (np.asarray(signal, float) / validate_ell(ell) + np.asarray(noise, float))
    return ratio_of_means(radial_gradient, right, confidence)
