"""The split-batch train step on TensorFlow."""

import warnings

import keras
import tensorflow as tf
from keras import tree

from keras_svag import _keras
from keras_svag.multi_step.tensorflow import with_steps_inside_xla
from keras_svag.noise import noise_and_signal
from keras_svag.optimizers.tensorflow import densify


def batch_length(x):
    """Number of examples in a batch, a scalar tensor; `None` leaves are skipped."""
    return tf.shape(first_leaf(x))[0]


def first_leaf(x):
    """The first array in a structure, `None` leaves skipped."""
    return next(leaf for leaf in tree.flatten(x) if leaf is not None)


def map_arrays(function, *structures):
    """Maps a function over the arrays of equal structures; `None` leaves stay `None`."""

    def on_leaf(*leaves):
        return None if leaves[0] is None else function(*leaves)

    return tree.map_structure(on_leaf, *structures, none_is_leaf=True)


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
    half = tf.maximum(length // 2, 1)
    start = tf.minimum(1, length - 1)

    def even(array):
        return array[::2][:half] if drop_odd else array[::2]

    return map_arrays(even, data), map_arrays(lambda array: array[start::2], data)


def join_halves(first, second, length):
    """Concatenates two halves, cut to `length` (a single example that was used twice).

    Scalars, such as a model may return beside its predictions, are averaged; masks go along.
    """

    def concatenate(a, b):
        return tf.concat([a, b], axis=0)[:length]

    def join(a, b):
        if len(a.shape) == 0:
            return (a + b) / tf.cast(2, a.dtype)
        return _keras.join_masks(a, b, concatenate(a, b), concatenate)

    return map_arrays(join, first, second)


class TensorFlowStep:
    """`train_step` for the TensorFlow backend; what is common is in `trainer/model.py`."""

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for each `steps_per_execution` batches.

        Args:
            force: whether to make it anew. Defaults to `False`.

        Returns:
            A function of an iterator that takes the steps and returns the logs.
        """
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = with_steps_inside_xla(self, self.train_function)
        return self.train_function

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
        pred1, gradients1 = self._half_pass(first, batch_length(first))
        # The second half of a batch of one is that example again: it counts for nothing.
        paired = batch_length(data) > 1
        weight2 = tf.where(paired, batch_length(second), 0)
        pred2, gradients2 = self._half_pass(second, weight2)
        if self.measure_noise and self.trainable_weights:
            self._record_noise(gradients1, gradients2, weight2)
        self._apply(gradients1, gradients2, batch_length(first), weight2)
        total = batch_length(first) + weight2
        (x, y, sample_weight), y_pred = join_halves((first, pred1), (second, pred2), total)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return {**logs, **self._noise_logs()}

    def _half_pass(self, half, weight):
        x, y, sample_weight = half
        with tf.GradientTape() as tape:
            y_pred = _keras.call_for_training(self, x)
            loss = _keras.loss_for_training(self, x, y, y_pred, sample_weight)
            scaled_loss = self.optimizer.scale_loss(loss)
        _keras.track_loss(self, loss, sample_weight=weight)
        gradients = tape.gradient(scaled_loss, self.trainable_weights)
        return y_pred, [None if g is None else densify(g) for g in gradients]

    def _record_noise(self, gradients1, gradients2, weight):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # Keras divides the loss by the number of replicas and multiplies it by the loss scale.
        unit = replicas / tf.cast(self.optimizer.scale_loss(1.0), tf.float32)
        penalties = self._penalty_gradients()

        def loss_gradient(gradient, penalty):
            if gradient is None:
                return None
            gradient = tf.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
            gradient = gradient * tf.cast(unit, gradient.dtype)
            return gradient if penalty is None else gradient - tf.cast(penalty, gradient.dtype)

        noise, signal = noise_and_signal(
            [loss_gradient(g, p) for g, p in zip(gradients1, penalties)],
            [loss_gradient(g, p) for g, p in zip(gradients2, penalties)],
        )
        # The noise of a batch split over replicas is that of one replica's share, averaged.
        self._gradient_statistics.update_state(noise / replicas, signal, sample_weight=weight)

    def _penalty_gradients(self):
        """Gradients of the weight regularisers, which are no part of noise and signal."""
        weights = [w for w in self.trainable_weights if w.regularizer is not None]
        if not weights:
            return [None] * len(self.trainable_weights)
        with tf.GradientTape() as tape:
            penalty = tf.add_n([tf.cast(w.regularizer(w), tf.float32) for w in weights])
        by_id = dict(zip(map(id, weights), tape.gradient(penalty, [w.value for w in weights])))
        return [by_id.get(id(w)) for w in self.trainable_weights]

    def _apply(self, gradients1, gradients2, size1, size2):
        weights = self.trainable_weights
        if not weights:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
            return
        if self._svag is None:
            share = tf.cast(size1, tf.float32) / tf.cast(size1 + size2, tf.float32)
            gradients = [
                None if g1 is None else _mix(g1, g2, share)
                for g1, g2 in zip(gradients1, gradients2)
            ]
            self.optimizer.apply(gradients, weights)
            return
        gradients = self._svag.combine(gradients1, gradients2)
        with self._svag.combined():
            self.optimizer.apply(gradients, weights)


def _mix(first, second, share):
    share = tf.cast(share, first.dtype)
    return first * share + second * (1 - share)
