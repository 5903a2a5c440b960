"""The split-batch train step, as far as it does not depend on the backend."""

import warnings

from keras import ops

from keras_svag import _keras
from keras_svag.optimizers import AmplificationMixin
from keras_svag.trainer.noise import loss_gradients, noise_and_signal, penalty_gradients
from keras_svag.trainer.structures import join_halves
from keras_svag.xla_policy import has_accelerator


class SplitBatchStep:
    """One step on two halves of a batch; a backend adds `train_step` and five methods.

    `_differentiate(function, get_weights)` calls a function that returns a scalar and a result, and
    returns the result and the gradients of the scalar with respect to `get_weights()`, which may
    exist only after the call. `_update(gradients)` hands gradients to the optimizer.
    `_num_replicas()` counts the replicas that run this step on their own part of the batch, and
    `_batch_is_sharded()` tells if devices share a batch that this step has as a whole.
    `_in_order(second, gradients)` returns both, so that the gradients of the first half are
    computed before anything of the second one, where that saves memory.
    """

    def _split_step(self, first, second, size1, size2):
        """Differentiates two halves `(x, y, sample_weight)`, updates once, returns the logs."""
        pred1, gradients1 = self._half_pass(first, size1)
        second, gradients1 = self._in_order(second, gradients1)
        pred2, gradients2 = self._half_pass(second, size2)
        if self.measure_noise and self.trainable_weights:
            self._record_noise(gradients1, gradients2, size1, size2)
        self._apply(gradients1, gradients2, size1, size2)
        halves = (first, pred1), (second, pred2)
        (x, y, sample_weight), y_pred = join_halves(
            *halves, size1 + size2, interleave=self._batch_is_sharded()
        )
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return {**logs, **self._noise_logs()}

    def _half_pass(self, half, weight):
        x, y, sample_weight = half

        def scaled_loss():
            y_pred = _keras.call_for_training(self, x)
            loss = _keras.compute_loss(self, x, y, y_pred, sample_weight)
            return self.optimizer.scale_loss(loss), (y_pred, loss)

        (y_pred, loss), gradients = self._differentiate(scaled_loss, lambda: self.trainable_weights)
        _keras.track_loss(self, loss, sample_weight=weight)
        return y_pred, gradients

    def _record_noise(self, gradients1, gradients2, size1, size2):
        replicas = self._num_replicas()
        # Keras divides the loss by the number of replicas and multiplies it by the loss scale.
        unscale = replicas / ops.cast(self.optimizer.scale_loss(1.0), "float32")
        weights = self.trainable_weights
        penalties = penalty_gradients(weights, self._differentiate)
        noise, signal = noise_and_signal(
            loss_gradients(weights, gradients1, penalties, unscale),
            loss_gradients(weights, gradients2, penalties, unscale),
            fold=self.jit_compile and not has_accelerator(),
        )
        # Each replica measures at B / replicas examples, where the noise is larger by that factor.
        size1, size2 = ops.cast(size1, "float32"), ops.cast(size2, "float32")
        # The halves of an odd batch differ: their harmonic mean is the batch size that N is of.
        weight = 2.0 * size1 * size2 / ops.maximum(size1 + size2, 1.0)
        self._gradient_statistics.update_state(
            noise / replicas, signal, weight, batch_size=size1 + size2, replicas=replicas
        )

    def _apply(self, gradients1, gradients2, size1, size2):
        if not self.trainable_weights:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        elif self._svag is not None:
            gradients = self._svag.combine(gradients1, gradients2)
            with self._svag.combined():
                self._update(self._with_overwritten(gradients, gradients1, gradients2))
        else:
            self._check_optimizers()
            # A replica may have no example of a short last batch.
            total = ops.maximum(ops.cast(size1 + size2, "float32"), 1.0)
            fraction = ops.cast(size1, "float32") / total
            pairs = zip(gradients1, gradients2)
            means = [None if a is None else _weighted_mean(a, b, fraction) for a, b in pairs]
            self._update(self._with_overwritten(means, gradients1, gradients2))

    def _check_optimizers(self):
        """Raises if an SVAG optimizer is inside another one, where it would pair batches."""
        if not self.optimizer.built:
            # A `MultiOptimizer` may choose optimizers by variable.
            self.optimizer.build(self.trainable_weights)
        outer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        inner = getattr(outer, "optimizers", [])
        if any(isinstance(optimizer, AmplificationMixin) for optimizer in inner):
            names = [type(optimizer).__name__ for optimizer in inner]
            raise ValueError(
                "`optimizer` must not contain SVAG optimizers, because all weights take one step "
                f"of one `ell` together. Received: {type(outer).__name__} of {names}. Compile "
                "with a single SVAG optimizer."
            )

    def _with_overwritten(self, gradients, first, second):
        """Returns the gradients, but of weights that Keras overwrites with them the maxima."""
        # These are scales and histories of the largest absolute values (float8). Keras takes
        # maxima where it accumulates gradients; that of both halves is that of the whole batch.
        return [
            ops.maximum(a, b) if a is not None and _keras.is_overwritten(weight) else gradient
            for weight, gradient, a, b in zip(self.trainable_weights, gradients, first, second)
        ]


def _weighted_mean(first, second, fraction):
    fraction = ops.cast(fraction, first.dtype)
    return first * fraction + second * (1 - fraction)
