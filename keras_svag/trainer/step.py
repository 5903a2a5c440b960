"""The split-batch train step, but for what only a backend can say."""

import warnings

import keras
from keras import ops

from keras_svag import _keras
from keras_svag.trainer.noise import noise_and_signal
from keras_svag.trainer.structures import join_halves
from keras_svag.xla_policy import has_accelerator


class SplitBatchStep:
    """One step on two halves; a backend adds `train_step` and three methods.

    - `_differentiate(function, get_weights)`: calls `function()`, which gives a scalar and anything
      else, and returns the latter and the gradients of the scalar with respect to `get_weights()`,
      which a model may only have after its first call,
    - `_update(gradients)`: gives the gradients to the optimizer,
    - `_num_replicas()`.
    """

    def _step_of_halves(self, first, second, size1, size2):
        """Two forward passes, one update.

        Args:
            first: tuple `(x, y, sample_weight)` of the first half.
            second: the same of the second half.
            size1: number of examples in the first half.
            size2: number of examples in the second half; 0 if it is the first one again, which
                then counts for nothing.

        Returns:
            A dict of logs: loss, compiled metrics, gradient noise and signal.
        """
        pred1, gradients1 = self._half_pass(first, size1)
        pred2, gradients2 = self._half_pass(second, size2)
        if self.measure_noise and self.trainable_weights:
            self._record_noise(gradients1, gradients2, size2)
        self._apply(gradients1, gradients2, size1, size2)
        halves = (first, pred1), (second, pred2)
        (x, y, sample_weight), y_pred = join_halves(*halves, size1 + size2)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return {**logs, **self._noise_logs()}

    def _half_pass(self, half, weight):
        x, y, sample_weight = half

        def scaled_loss():
            y_pred = _keras.call_for_training(self, x)
            loss = _keras.loss_for_training(self, x, y, y_pred, sample_weight)
            return self.optimizer.scale_loss(loss), (y_pred, loss)

        (y_pred, loss), gradients = self._differentiate(scaled_loss, lambda: self.trainable_weights)
        _keras.track_loss(self, loss, sample_weight=weight)
        return y_pred, gradients

    def _record_noise(self, gradients1, gradients2, weight):
        replicas = self._num_replicas()
        # Keras divides the loss by the number of replicas and multiplies it by the loss scale.
        unit = replicas / ops.cast(self.optimizer.scale_loss(1.0), "float32")
        penalties = self._penalty_gradients()

        def loss_gradient(gradient, penalty):
            if gradient is None:
                return None
            gradient = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
            gradient = gradient * ops.cast(unit, gradient.dtype)
            return gradient if penalty is None else gradient - ops.cast(penalty, gradient.dtype)

        noise, signal = noise_and_signal(
            [loss_gradient(g, p) for g, p in zip(gradients1, penalties)],
            [loss_gradient(g, p) for g, p in zip(gradients2, penalties)],
            fold=self.jit_compile and not has_accelerator(),
        )
        # The noise of a batch split over replicas is that of one replica's share, averaged.
        self._gradient_statistics.update_state(noise / replicas, signal, sample_weight=weight)

    def _penalty_gradients(self):
        """Gradients of the weight regularisers, which are no part of noise and signal."""
        weights = [w for w in self.trainable_weights if w.regularizer is not None]
        if not weights:
            return [None] * len(self.trainable_weights)

        def penalty():
            return sum(ops.cast(w.regularizer(w.value), "float32") for w in weights), None

        _, gradients = self._differentiate(penalty, lambda: weights)
        by_id = dict(zip(map(id, weights), gradients))
        return [by_id.get(id(w)) for w in self.trainable_weights]

    def _apply(self, gradients1, gradients2, size1, size2):
        if not self.trainable_weights:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
            return
        if self._svag is None:
            share = ops.cast(size1, "float32") / ops.cast(size1 + size2, "float32")
            self._update(
                [
                    None if g1 is None else _mix(g1, g2, share)
                    for g1, g2 in zip(gradients1, gradients2)
                ]
            )
            return
        gradients = self._svag.combine(gradients1, gradients2)
        with self._svag.combined():
            self._update(gradients)


def _mix(first, second, share):
    share = ops.cast(share, first.dtype)
    return first * share + second * (1 - share)
