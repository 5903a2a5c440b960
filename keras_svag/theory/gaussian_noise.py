"""Gaussian noise with the covariance of a mini-batch, for any network."""

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_svag._checks import as_floats, finite_float, positive_int


def gaussian_loss_weights(
    normals: ArrayLike, batch_size: int, noise_steps: float = 1
) -> np.ndarray:
    """Weights of the examples' losses that give the full gradient the noise of a mini-batch.

    With `w_i = 1 + sqrt(m n / B) (z_i - mean z)` the gradient of the weighted mean loss is Gaussian
    with the mean `grad L` and m times the covariance of B examples drawn with replacement. With
    steps of `eta / m`, m = 1 is the noisy gradient descent of
    [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470), and m > 1 the Euler-Maruyama
    simulation of the SDE, with an error of order 1/m (as the ground truth for SVAG(l), use m much
    larger than l).

    Args:
        normals: Array of shape `(..., n)`, standard normal numbers, one per example.
        batch_size: B, the batch size of the SGD run.
        noise_steps: m, steps per SGD step, a number > 0. Defaults to `1`.

    Returns:
        A float64 array of the shape of `normals`; its mean over the last axis is 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> gaussian_loss_weights([1.0, -1.0], batch_size=2, noise_steps=4)
    array([ 3., -1.])
    """
    z = as_floats("normals", normals)
    if z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(
            "`normals` must have one number per example along its last axis. "
            f"Received: normals of shape {z.shape}"
        )
    batch_size = positive_int("batch_size", batch_size)
    noise_steps = finite_float("noise_steps", noise_steps, "a number > 0", 0.0, exclusive=True)
    scale = math.sqrt(noise_steps * z.shape[-1] / batch_size)
    return 1.0 + scale * (z - z.mean(axis=-1, keepdims=True))


def standard_normals(count: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Standard normal numbers for a range of steps, a pure function of seed and step.

    They are independent of the batches of a `keras_svag.datasets.Sampler` of the same seed.

    Args:
        count: Numbers per step, one for each example.
        seed: An integer >= 0.
        start: First step, counted from 0.
        stop: One past the last step.

    Returns:
        A float64 array of shape `(stop - start, count)`.

    Raises:
        ValueError: If an argument is out of range.

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


def random_signs(seed: int, start: int, stop: int) -> np.ndarray:
    """Fair random signs for a range of steps, a pure function of seed and step."""
    steps = range(start, stop)
    bits = [_step_generator(seed, step, stream=2).integers(2) for step in steps]
    return 2.0 * np.array(bits, float) - 1.0


def _step_generator(seed: int, step: int, stream: int = 1) -> np.random.Generator:
    # The sampler's counters start at zero and never come near 2^192.
    key, counter = np.array([seed, step], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
