"""The noise scale on JAX, where a program sees gradients of all devices together."""

import contextlib

import jax
import keras
import numpy as np

from keras_svag import _keras
from keras_svag.noise.estimates import estimate, extend
from keras_svag.optimizers.jax import densify, num_gradient_shards
from keras_svag.trainer import jax as trainer
from keras_svag.trainer.structures import first_leaf

__all__ = ["check_replicas", "densify", "differentiate", "num_gradient_shards"]


def differentiate(function, get_weights):
    """Returns the result of a function and the gradients of the scalar beside it."""
    return trainer.differentiate(function, get_weights, [])


def check_current(weights, gradients):
    """Raises if gradients are traced, but not the regularized weights that they belong to."""
    if not any(isinstance(gradient, jax.core.Tracer) for gradient in gradients):
        return
    for weight in weights:
        is_regularized = getattr(weight, "regularizer", None) is not None
        if is_regularized and not isinstance(weight.value, jax.core.Tracer):
            raise ValueError(
                "In a compiled function the current values of `weights` with a regularizer must be "
                f"known. Received: {weight.path} as it was outside. Update the metric in a "
                "keras.StatelessScope that maps the weights and the variables of the metric to "
                "their values."
            )


def check_replicas():
    """Raises: gradients of single devices cannot be seen."""
    raise ValueError(
        "`update_from_replicas` needs TensorFlow. Received: the JAX backend, whose gradients are "
        "those of all devices together. Use `update_state` with the gradients of several parts of "
        "the batch, or `update_from_micro_batch`."
    )


def sum_over_replicas(tensors):
    """Returns the tensors: there is one program."""
    return tensors


HOOK = "stateless_apply"
WHY_SINGLE = (
    ", even on several devices, because JAX adds up the gradients of all devices inside the program"
)


def replicas_of(model):
    """Returns 1: the gradients of single devices cannot be seen."""
    del model
    return 1


def scope_of(model):
    """Returns a context that does nothing."""
    del model
    return contextlib.nullcontext()


def batch_length(data):
    """Returns the number of examples in a batch."""
    return first_leaf(data).shape[0]


def make_hook(optimizer, measure):
    """Returns a `stateless_apply` that measures before it applies."""
    apply = optimizer.stateless_apply

    def hook(optimizer_variables, grads, trainable_variables):
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        weights = _keras.built_weights(inner)
        mapping = [
            *zip(optimizer.variables, optimizer_variables),
            *zip(weights, trainable_variables),
        ]
        with keras.StatelessScope(state_mapping=mapping):
            measure(grads, weights)
        return apply(optimizer_variables, grads, trainable_variables)

    return hook


class Sums:
    """The sums of a `GradientNoiseScale` on the host, because a train step has no state for them.

    A train step of one's own returns what it knows of. So its program sends two numbers, or two of
    each layer, for every micro-batch.
    """

    def __init__(self, scale):
        self._scale = scale
        self._group = None  # spread, square, sum of 1/b, micro-batches
        self.reset()

    def reset(self):
        """Sets the sums to zero."""
        jax.effects_barrier()
        self._totals, self._layers = np.zeros(5), np.zeros((2, len(self._scale.layers)))

    def add(self, optimizer, gradients, weights, batch_size):
        """Adds the micro-batch that `stateless_apply` is given."""
        noise, signal, position, count = self._scale._compare_micro_batch(
            optimizer, gradients, weights
        )

        def receive(noise, signal, position):
            noise, signal, position = (np.float64(value) for value in (noise, signal, position))
            self._receive(noise, signal, position, count, batch_size)

        jax.debug.callback(receive, noise, signal, position)

    def read(self):
        """Returns the sums as floats, and those of each layer as two arrays."""
        jax.effects_barrier()
        return self._totals.tolist(), list(self._layers)

    def _receive(self, noise, signal, position, count, batch_size):
        if not np.isfinite(noise + signal).all():
            return
        if position == 0:
            self._group = np.zeros_like(noise), np.zeros_like(signal), 0.0, 0
        if self._group is None or self._group[-1] != position:
            return
        spread, square, inverse, seen = self._group
        spread, square = extend(spread, square, position, noise, signal)
        self._group = spread, square, inverse + 1 / batch_size, seen + 1
        if seen + 1 == count:
            size = count / self._group[2]
            noise, signal = (size * value for value in estimate(spread, square / count**2, count))
            self._totals[:4] += noise.sum(), signal.sum(), size, 1
            if self._scale.layers:
                self._layers += noise, signal
        self._totals[4] = max(self._totals[4], batch_size)
