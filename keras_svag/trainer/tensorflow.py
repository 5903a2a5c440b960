"""The split-batch train step on TensorFlow."""

import keras
import tensorflow as tf

from keras_svag import _keras
from keras_svag.fused_steps import fuse_steps
from keras_svag.optimizers.tensorflow import densify
from keras_svag.trainer.step import SplitBatchStep
from keras_svag.trainer.structures import first_leaf, split_batch


def batch_length(x):
    """Returns the number of examples in a batch, an int if it is static, else a scalar tensor."""
    array = first_leaf(x)
    return array.shape[0] or tf.shape(array)[0]


def differentiate(function, get_weights, other_variables):
    """Returns the result of a function and the dense gradients of the scalar beside it."""
    del other_variables
    with tf.GradientTape() as tape:
        scalar, result = function()
    gradients = [None if g is None else densify(g) for g in tape.gradient(scalar, get_weights())]
    # Where a loss is linear in the outputs, gradients do not need them, and without XLA weights
    # might be updated before the forward pass reads them: TensorFlow drops the order that it had
    # noted with an operation that it optimizes away.
    with tf.control_dependencies([scalar]):
        return result, [None if g is None else tf.identity(g) for g in gradients]


def sync_overflow(gradients):
    """Makes gradients NaN on every replica if they are not finite on one of them."""
    # Keras' loss scaling skips a step if gradients are not finite, and asks a single replica.
    finite = [tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None]
    overflow = tf.where(tf.reduce_all(finite), 0.0, 1.0)
    overflows = tf.distribute.get_replica_context().all_reduce("SUM", overflow)
    nan_or_zero = tf.where(overflows > 0, float("nan"), 0.0)
    return [None if g is None else g + tf.cast(nan_or_zero, g.dtype) for g in gradients]


def sync_logs(model, train_function):
    """Wraps a train function so that `fit` logs metrics, noise and signal of all replicas."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1 or not model._logs_are_metric_results:
        return train_function

    @tf.function(autograph=False)
    def read_metrics():
        return model._train_logs()

    def function(iterator):
        train_function(iterator)
        # Outside of replicas: inside, a metric has the steps of one replica only.
        with strategy.scope():
            return read_metrics()

    return function


class BackendStep(SplitBatchStep):
    """`train_step` for the TensorFlow backend."""

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """Trains the model, as `keras.Model.fit` does."""
        self._check_batch_length(batch_size, self.distribute_strategy.num_replicas_in_sync)
        return super().fit(x, y, batch_size, *args, **kwargs)

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for every `steps_per_execution` batches."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = fuse_steps(self, self.train_function)
            self.train_function = sync_logs(self, self.train_function)
        return self.train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras starts one epoch to see the shapes of a batch and another one to
        # train: a data set that counts epochs would be one ahead.
        if iterator is not None:
            batch = _keras.first_batch_under_strategy(self, iterator)
            iterator, data_batch = (iterator, None) if batch is None else (None, batch)
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def train_step(self, data):
        """Takes one SVAG step on a batch of 2B examples: two forward passes, one update."""
        if not tf.executing_eagerly():
            # A static length is that of every batch; eagerly it is that of this one only.
            self._check_batch_length(first_leaf(data).shape[0])
        data = keras.utils.unpack_x_y_sample_weight(data)
        length = batch_length(data)
        first, second = split_batch(data, length, drop_odd=self._svag is not None)
        # The second half of a batch of one repeats that example, so its size is 0.
        size2 = batch_length(second)
        size2 = tf.where(length > 1, size2, 0) if tf.is_tensor(length) else size2 * (length > 1)
        return self._split_step(first, second, batch_length(first), size2)

    def _differentiate(self, function, get_weights):
        return differentiate(function, get_weights, [])

    def _update(self, gradients):
        is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if is_scaled and self._num_replicas() > 1:
            gradients = sync_overflow(gradients)
        self.optimizer.apply(gradients, self.trainable_weights)

    def _num_replicas(self):
        return tf.distribute.get_strategy().num_replicas_in_sync

    def _in_order(self, second, gradients):
        return second, gradients

    def _batch_is_sharded(self):
        # Each replica has a batch of its own.
        return False
