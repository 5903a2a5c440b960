"""Gradients of replicas on TensorFlow, and the hook that measures them during `fit`."""

import tensorflow as tf

from keras_svag import _keras
from keras_svag.optimizers.tensorflow import densify, num_gradient_shards
from keras_svag.trainer import tensorflow as trainer
from keras_svag.trainer.tensorflow import batch_length

__all__ = ["batch_length", "check_replicas", "densify", "differentiate", "num_gradient_shards"]


def differentiate(function, get_weights):
    """Returns the result of a function and the gradients of the scalar beside it."""
    return trainer.differentiate(function, get_weights, [])


def check_current(weights, gradients):
    """Does nothing: programs read the variables themselves."""
    del weights, gradients


def check_replicas():
    """Returns the number of replicas; raises unless this is one of several."""
    context = tf.distribute.get_replica_context()
    replicas = 1 if context is None else context.num_replicas_in_sync
    if replicas < 2:
        where = "outside of a replica" if context is None else "1 replica"
        raise ValueError(
            "`update_from_replicas` needs a strategy of at least 2 replicas, and must be called in "
            f"each of them. Received: {where}. Call it in Strategy.run, or use `update_state` with "
            "the gradients of several parts of the batch."
        )
    return replicas


def sum_over_replicas(tensors):
    """Returns the sums of tensors over all replicas; `None` stays."""
    found = [tensor for tensor in tensors if tensor is not None]
    sums = iter(tf.distribute.get_replica_context().all_reduce("SUM", found))
    return [None if tensor is None else next(sums) for tensor in tensors]


HOOK = "apply"
WHY_SINGLE = ""


def replicas_of(model):
    """Returns the number of replicas that train a model."""
    return model.distribute_strategy.num_replicas_in_sync


def scope_of(model):
    """Returns the scope in which variables of a model are created."""
    return model.distribute_strategy.scope()


def make_hook(optimizer, measure):
    """Returns an `apply` that measures before it applies."""
    apply = optimizer.apply

    def hook(grads, trainable_variables=None):  # named as in Keras: they may be keywords
        grads = list(grads)
        weights = None if trainable_variables is None else list(trainable_variables)
        measure(grads, weights)
        return apply(grads, weights)

    return hook


class Sums:
    """The sums of a `GradientNoiseScale`, which is part of the program."""

    def __init__(self, scale):
        self._scale = scale

    def reset(self):
        """Sets the sums to zero."""
        self._scale.reset_state()

    def add(self, optimizer, gradients, weights, batch_size):
        """Adds the gradients that `apply` is given."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            weights = _keras.built_weights(optimizer) if weights is None else weights
            self._scale.update_from_replicas(gradients, batch_size, weights, optimizer)
        else:
            self._scale.update_from_micro_batch(optimizer, gradients, batch_size, weights)

    def read(self):
        """Returns the sums as floats, of all replicas, and those of each layer as two arrays."""
        scale = self._scale
        layers = [scale._layer_noise, scale._layer_signal] if scale.layers else []
        return scale.totals().numpy().tolist(), [tf.convert_to_tensor(v).numpy() for v in layers]
