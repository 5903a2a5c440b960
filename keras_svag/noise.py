"""Gradient noise and signal from the two gradients that an SVAG step has anyway.

For independent batches of size B with gradients g1 and g2, `N = |g1 - g2|^2 / 2` estimates the
trace of the covariance of the mini-batch gradient and `G = <g1, g2>` the squared norm of the full
gradient, both without bias (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5).
"""

import keras
from keras import ops

METRIC_NAMES = ("gradient_noise", "gradient_signal", "noise_to_signal")


def noise_and_signal(first, second):
    """Unbiased estimates of gradient noise N and gradient signal G from two gradients.

    Args:
        first: list of gradient tensors of one batch; `None` entries are skipped.
        second: list of gradient tensors of an independent batch of the same size.

    Returns:
        A tuple `(N, G)` of scalar tensors in float32 or better: `sum |g1 - g2|^2 / 2` and
        `sum g1 g2`, over all entries of all tensors.

    Example:

    >>> noise, signal = noise_and_signal([np.array([3.0, 0.0])], [np.array([1.0, 0.0])])
    >>> float(noise), float(signal)
    (2.0, 3.0)
    """
    noise, signal = 0.0, 0.0
    for g1, g2 in zip(first, second):
        if g1 is None or g2 is None:
            continue
        dtype = keras.backend.result_type(g1.dtype, "float32")
        g1, g2 = ops.cast(g1, dtype), ops.cast(g2, dtype)
        noise += ops.sum(ops.square(g1 - g2)) / 2.0
        signal += ops.sum(g1 * g2)
    return ops.convert_to_tensor(noise), ops.convert_to_tensor(signal)


@keras.saving.register_keras_serializable(package="keras_svag")
class GradientStatistics(keras.metrics.Metric):
    """Running means of gradient noise N, gradient signal G, and the ratio of the means.

    The ratio is that of the means, not the mean of ratios, which would be biased. Steps with
    non-finite gradients (float16 overflow) are left out.

    Args:
        name: Name of the metric. Defaults to `"gradient_statistics"`.
        dtype: Dtype of the sums. Defaults to `None`, meaning float32.
    """

    def __init__(self, name="gradient_statistics", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._noise = self.add_weight(name="noise", initializer="zeros")
        self._signal = self.add_weight(name="signal", initializer="zeros")
        self._weight = self.add_weight(name="weight", initializer="zeros")

    def update_state(self, noise, signal, sample_weight=1.0):
        """Adds one step.

        Args:
            noise: scalar tensor, N of this step.
            signal: scalar tensor, G of this step.
            sample_weight: scalar; the size of one half, so that a short last batch, whose N is
                larger, counts for less. 0 leaves the step out.
        """
        # `where`, not a product: 0 times nan is nan.
        usable = ops.isfinite(noise + signal) & (ops.cast(sample_weight, self.dtype) > 0)
        weight = ops.where(usable, ops.cast(sample_weight, self.dtype), 0.0)
        self._noise.assign_add(weight * ops.where(usable, ops.cast(noise, self.dtype), 0.0))
        self._signal.assign_add(weight * ops.where(usable, ops.cast(signal, self.dtype), 0.0))
        self._weight.assign_add(weight)

    def result(self):
        """Returns the means.

        Returns:
            A dict with `gradient_noise`, `gradient_signal` and `noise_to_signal`; the last is
            infinite where the mean signal is not positive.
        """
        weight = ops.maximum(self._weight, 1e-30)
        positive = self._signal > 0
        ratio = self._noise / ops.where(positive, self._signal, 1.0)
        return {
            "gradient_noise": self._noise / weight,
            "gradient_signal": self._signal / weight,
            "noise_to_signal": ops.where(positive, ratio, float("inf")),
        }
