"""The compiled programs of `DeviceTrainLoop` and `DeviceEvaluation` on TensorFlow."""

import tensorflow as tf
from keras import tree

from keras_svag import _keras
from keras_svag.distribution.tensorflow import (
    average_statistics,
    is_distributed,
    num_replicas,
    replica_slice,
    to_device,
)
from keras_svag.trainer.structures import first_leaf, map_arrays
from keras_svag.xla_policy.tensorflow import JIT_ALL, compiled, jit_scope_of


def limit_threads(count):
    """Limits TensorFlow to `count` threads; must come before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def reset_metrics_if(model, condition):
    """Resets the metrics inside a compiled program if `condition`, a boolean tensor, holds."""
    # Outside of it, the assignment of one variable takes longer than a hundred steps.
    tf.cond(condition, lambda: (model.reset_metrics(), 0)[1], lambda: 0)


class BackendLoop:
    """The part of `DeviceTrainLoop` that depends on the backend.

    `_compile` puts the data on the device and makes the program; `_call` takes `count` steps and
    returns the number of steps done, the loss and the logs. Under a strategy each replica has all
    data and gathers its slice of each batch.
    """

    def _compile(self, data):
        self._strategy = tf.distribute.get_strategy()
        self._data = tree.map_structure(to_device, data)
        self._program = None  # compiled for the number of examples of the first step

    def _batch(self, row, augment_params):
        batch = tree.map_structure(lambda a: tf.gather(tf.convert_to_tensor(a), row), self._data)
        return self._prepare_batch(batch, augment_params)

    def _one_step(self, row, augment_params):
        batch = self._batch(*map_arrays(replica_slice, (row, augment_params)))
        return tf.cast(self._model.train_step(batch)["loss"], tf.float32)

    def _many_steps(self, rows, augment_params, count, reset_metrics):
        self.num_traces += 1
        strategy = self._strategy
        strategy.run(lambda: reset_metrics_if(self._model, reset_metrics))

        def body(step, loss):
            del loss
            params = map_arrays(lambda a: a[step], augment_params)
            losses = strategy.run(self._one_step, args=(rows[step], params))
            return step + 1, strategy.reduce("MEAN", losses, axis=None)

        def cond_fn(step, loss):
            # `loss` is a running mean: once it is not finite, it stays so and the loop ends.
            return (step < count) & tf.math.is_finite(loss)

        start = (tf.constant(0), tf.constant(0.0))
        step, loss = tf.while_loop(cond_fn, body, start) if self._fuse_steps else body(*start)
        if is_distributed():
            # Otherwise each replica has moving averages of its own, and only one is evaluated.
            statistics = self._model.non_trainable_variables
            strategy.run(lambda: average_statistics(statistics))
        return step, loss, self._model._train_logs()

    def _call(self, rows, augment_params, count, reset_metrics):
        rows, augment_params = map_arrays(tf.constant, (rows, augment_params))
        if is_distributed() and not self.num_traces:
            # Variables that are created while replicas are traced cannot be mirrored.
            batch = self._batch(rows[0], map_arrays(lambda a: a[0], augment_params))
            _keras.build_for_training(self._model, batch)
        if self._program is None:
            fused = self._fuse_steps
            jit_scope = JIT_ALL if fused else jit_scope_of(self._model, rows.shape[1])
            self._program = compiled(self._many_steps, jit_scope)
        return self._program(rows, augment_params, tf.constant(count), tf.constant(reset_metrics))


class BackendEvaluation:
    """The part of `DeviceEvaluation` that depends on the backend."""

    def _to_device(self, array):
        return tf.constant(array)

    def _compiled(self):
        self._strategy = tf.distribute.get_strategy()
        one_batch = self._one_batch_of_replicas if is_distributed() else self._one_batch
        return compiled(one_batch, jit_scope_of(self._model))

    def _one_batch(self, batch, reset_metrics):
        self.num_traces += 1
        reset_metrics_if(self._model, reset_metrics)
        return self._model.test_step(self._prepare_batch(batch))

    def _one_batch_of_replicas(self, batch, reset_metrics):
        self.num_traces += 1
        self._strategy.run(lambda: reset_metrics_if(self._model, reset_metrics))
        self._strategy.run(self._one_slice, args=(batch,))
        return self._model.get_metrics_result()

    def _one_slice(self, batch):
        def evaluate(examples):
            self._model.test_step(self._prepare_batch(examples))
            return 0

        if first_leaf(batch).shape[0] % num_replicas() == 0:
            evaluate(map_arrays(replica_slice, batch))
        else:
            # A rest that cannot be split equally is evaluated on the first replica only.
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            tf.cond(tf.equal(index, 0), lambda: evaluate(batch), lambda: 0)

    def _call(self, batch, reset_metrics):
        return self._program(batch, tf.constant(reset_metrics))
