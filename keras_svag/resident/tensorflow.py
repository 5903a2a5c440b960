"""Many steps, or a whole evaluation, in compiled programs of TensorFlow."""

import tensorflow as tf
from keras import tree

from keras_svag import _keras
from keras_svag.compilation.tensorflow import WHOLE, compiled, xla_share
from keras_svag.distribution.tensorflow import (
    average_statistics,
    is_distributed,
    num_replicas,
    resident,
    share,
)
from keras_svag.trainer.structures import first_leaf, map_arrays


def limit_threads(count):
    """Limits TensorFlow to `count` threads; must come before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def reset_metrics(model, condition):
    """Resets a model's metrics inside a compiled program if `condition` (a tensor) holds."""
    # Inside the program: outside, one assignment a variable costs more than a hundred steps.
    tf.cond(condition, lambda: (model.reset_metrics(), 0)[1], lambda: 0)


class BackendLoop:
    """What is compiled of a `ResidentLoop`.

    `_compile(data)` puts the data on the device and makes the program. `_call` takes `count` steps,
    the metrics being reset if `fresh`; it gives steps taken, loss and logs. Under a strategy each
    replica has all data and gathers its share of each batch.
    """

    def _compile(self, data):
        self._strategy = tf.distribute.get_strategy()
        self._data = tree.map_structure(resident, data)
        share = WHOLE if self._inside_xla else xla_share(self._model)
        self._program = compiled(self._many_steps, share)

    def _batch(self, row, draws):
        batch = tree.map_structure(lambda a: tf.gather(tf.convert_to_tensor(a), row), self._data)
        return self._prepared(batch, draws)

    def _one_step(self, row, draws):
        batch = self._batch(*map_arrays(share, (row, draws)))
        return tf.cast(self._model.train_step(batch)["loss"], tf.float32)

    def _many_steps(self, rows, draws, count, fresh):
        self.num_traces += 1
        strategy = self._strategy
        strategy.run(lambda: reset_metrics(self._model, fresh))

        def body(step, loss):
            del loss
            drawn = map_arrays(lambda a: a[step], draws)
            losses = strategy.run(self._one_step, args=(rows[step], drawn))
            return step + 1, strategy.reduce("MEAN", losses, axis=None)

        def go_on(step, loss):
            # `loss` is the running mean: once not finite it stays so, and the loop ends there.
            return (step < count) & tf.math.is_finite(loss)

        start = (tf.constant(0), tf.constant(0.0))
        step, loss = tf.while_loop(go_on, body, start) if self._inside_xla else body(*start)
        if is_distributed():
            # Else each replica keeps the moving averages of its own share, and one is evaluated.
            statistics = self._model.non_trainable_variables
            strategy.run(lambda: average_statistics(statistics))
        logs = {**self._model.get_metrics_result(), **self._model._noise_logs()}
        return step, loss, logs

    def _call(self, rows, draws, count, fresh):
        rows, draws = map_arrays(tf.constant, (rows, draws))
        if is_distributed() and not self.num_traces:
            # Variables that are made while replicas are traced cannot be theirs together.
            batch = self._batch(rows[0], map_arrays(lambda a: a[0], draws))
            _keras.build_for_training(self._model, batch)
        return self._program(rows, draws, tf.constant(count), tf.constant(fresh))


class BackendEvaluation:
    """What is compiled of a `ResidentEvaluation`.

    `_call` evaluates a batch, the metrics being reset if `fresh`, and gives the logs.
    """

    def _on_device(self, array):
        return tf.constant(array)

    def _compiled(self):
        self._strategy = tf.distribute.get_strategy()
        one_batch = self._one_batch_of_replicas if is_distributed() else self._one_batch
        return compiled(one_batch, xla_share(self._model))

    def _one_batch(self, batch, fresh):
        self.num_traces += 1
        reset_metrics(self._model, fresh)
        return self._model.test_step(self._prepared(batch))

    def _one_batch_of_replicas(self, batch, fresh):
        self.num_traces += 1
        self._strategy.run(lambda: reset_metrics(self._model, fresh))
        self._strategy.run(self._one_share, args=(batch,))
        return self._model.get_metrics_result()

    def _one_share(self, batch):
        def evaluate(part):
            self._model.test_step(self._prepared(part))
            return 0

        if first_leaf(batch).shape[0] % num_replicas() == 0:
            evaluate(map_arrays(share, batch))
        else:
            # A rest that cannot be shared equally counts once.
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            tf.cond(tf.equal(index, 0), lambda: evaluate(batch), lambda: 0)

    def _call(self, batch, fresh):
        return self._program(batch, tf.constant(fresh))
