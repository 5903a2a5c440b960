"""The split-batch train step on TensorFlow."""

import keras
import tensorflow as tf

from keras_svag import _keras
from keras_svag.fused_steps.tensorflow import fuse_steps
from keras_svag.optimizers.tensorflow import densify
from keras_svag.trainer.step import SplitBatchStep
from keras_svag.trainer.structures import first_leaf, map_arrays


def batch_length(x):
    """Number of examples in a batch, an int where it is static, else a scalar tensor."""
    array = first_leaf(x)
    return array.shape[0] or tf.shape(array)[0]


def split_batch(data, drop_odd):
    """Splits a batch into its even positions (first half) and odd positions (second half).

    Args:
        data: structure of tensors that share their first axis, of length n >= 1.
        drop_odd: whether the last example of an odd batch is left out, so that both halves are of
            equal size. Otherwise the first half has one example more.

    Returns:
        A tuple `(first, second)`. A batch of one example gives that example twice.
    """
    length = batch_length(data)
    # Where the length is static all shapes are, as TPUs want it.
    static = isinstance(length, int)
    half = max(length // 2, 1) if static else tf.maximum(length // 2, 1)
    start = min(1, length - 1) if static else tf.minimum(1, length - 1)

    def even(array):
        return array[::2][:half] if drop_odd else array[::2]

    return map_arrays(even, data), map_arrays(lambda array: array[start::2], data)


def differentiate(function, get_weights, others):
    """Gradients of a function of variables.

    Args:
        function: function without arguments that gives a tuple of a scalar and anything else.
        get_weights: function that gives the list of Keras variables, once `function` was called.
        others: list of the other variables that it reads or assigns; not needed on this backend.

    Returns:
        A tuple: what else the function gave, and the list of dense gradients of the scalar, `None`
        for those that it does not depend on.
    """
    del others
    with tf.GradientTape() as tape:
        scalar, result = function()
    gradients = tape.gradient(scalar, get_weights())
    return result, [None if g is None else densify(g) for g in gradients]


def with_overflow_of_all_replicas(gradients):
    """Makes gradients not finite on every replica if they are not finite on one of them.

    Keras' loss scaling skips a step if gradients are not finite, and asks one replica alone.

    Args:
        gradients: list of dense gradients of this replica; entries may be `None`.

    Returns:
        The same list, all of NaN where any replica has another number than a finite one.
    """
    finite = [tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None]
    overflow = tf.where(tf.reduce_all(finite), 0.0, 1.0)
    overflows = tf.distribute.get_replica_context().all_reduce("SUM", overflow)
    nothing = tf.where(overflows > 0, float("nan"), 0.0)
    return [None if g is None else g + tf.cast(nothing, g.dtype) for g in gradients]


def with_logs_of_all_replicas(model, train_function):
    """Lets the logs of `fit` be the metrics over all replicas, noise and signal too.

    Args:
        model: a compiled model with the split-batch train step.
        train_function: the function of an iterator that takes the steps.

    Returns:
        A function of an iterator that takes the steps and returns the logs.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1 or not model._logs_are_metric_results:
        return train_function

    @tf.function(autograph=False)
    def read():
        return {**model.get_metrics_result(), **model._noise_logs()}

    def function(iterator):
        train_function(iterator)
        # Outside of replicas: there a metric would tell of the steps of one replica alone.
        with strategy.scope():
            return read()

    return function


class BackendStep(SplitBatchStep):
    """`train_step` for the TensorFlow backend."""

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """Trains the model: see `keras.Model.fit`."""
        self._check_batch_length(batch_size, self.distribute_strategy.num_replicas_in_sync)
        return super().fit(x, y, batch_size, *args, **kwargs)

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for each `steps_per_execution` batches.

        Args:
            force: whether to make it anew. Defaults to `False`.

        Returns:
            A function of an iterator that takes the steps and returns the logs.
        """
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = fuse_steps(self, self.train_function)
            self.train_function = with_logs_of_all_replicas(self, self.train_function)
        return self.train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras would begin one epoch to see how batches look, and the next one to
        # train: a data set that counts epochs would be one ahead.
        if iterator is not None:
            batch = _keras.first_batch_under_strategy(self, iterator)
            iterator, data_batch = (iterator, None) if batch is None else (None, batch)
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def train_step(self, data):
        """One SVAG step on a batch of 2B examples: two forward passes, one update.

        Args:
            data: a batch as `fit` hands it over: `x`, `(x, y)` or `(x, y, sample_weight)`, each a
                structure of tensors with 2B examples.

        Returns:
            A dict of logs: loss, compiled metrics, gradient noise and signal.
        """
        if not tf.executing_eagerly():
            # A static length is that of every batch; eagerly it is that of this one alone.
            self._check_batch_length(first_leaf(data).shape[0])
        data = keras.utils.unpack_x_y_sample_weight(data)
        first, second = split_batch(data, drop_odd=self._svag is not None)
        # The second half of a batch of one is that example again: it counts for nothing.
        length, size2 = batch_length(data), batch_length(second)
        size2 = tf.where(length > 1, size2, 0) if tf.is_tensor(length) else size2 * (length > 1)
        return self._step_of_halves(first, second, batch_length(first), size2)

    def _differentiate(self, function, get_weights):
        return differentiate(function, get_weights, [])

    def _update(self, gradients):
        is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if is_scaled and self._num_replicas() > 1:
            gradients = with_overflow_of_all_replicas(gradients)
        self.optimizer.apply(gradients, self.trainable_weights)

    def _num_replicas(self):
        return tf.distribute.get_strategy().num_replicas_in_sync
