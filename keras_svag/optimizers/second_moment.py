"""Noise with the second moment of SGD's steps, in place of their covariance."""

import keras
import numpy as np
from keras import ops

from keras_svag.optimizers.amplification import dense_gradient


class SecondMomentNoise:
    """Makes an SVAG optimizer step by `(1 +- sqrt(ell - 1)) g1`, with a random sign for each step.

    Given the weights, the mean of such a gradient is grad L and its second moment `ell E g1 g1^T`.
    In the limit of many short steps the noise therefore has the second moment of SGD's steps,
    `Sigma + grad L grad L^T`, where SVAG has their covariance Sigma. The second half of a batch
    only serves to measure N and G.
    """

    def __init__(self, optimizer, max_steps):
        self._optimizer = optimizer
        # A variable, so that programs of any backend see what the host has drawn.
        self._signs = keras.Variable(
            np.ones(max_steps, np.float32),
            name="signs",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
        )
        optimizer._track_variable(self._signs)
        optimizer.combine = self.combine

    def assign(self, signs):
        """Sets the signs of the next steps, one each."""
        table = np.ones(self._signs.shape[0], np.float32)
        table[(int(self._optimizer.iterations) + np.arange(len(signs))) % len(table)] = signs
        self._signs.assign(table)

    def combine(self, first, second):
        """Returns the list of `(1 +- sqrt(ell - 1)) g1`, in float32 or better."""
        index = ops.mod(self._optimizer.iterations, self._signs.shape[0])
        ell = self._optimizer._tensor("ell")
        sign = ops.cast(ops.take(ops.cast(self._signs, "float32"), index), ell.dtype)
        weight = 1.0 + sign * ops.sqrt(ell - 1.0)
        return [
            None if g1 is None or g2 is None else _times(weight, dense_gradient(g1))
            for g1, g2 in zip(first, second)
        ]


def _times(weight, gradient):
    return gradient * ops.cast(weight, gradient.dtype)
