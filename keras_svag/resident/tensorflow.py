"""Many steps, or a whole evaluation, in compiled programs of TensorFlow."""

import tensorflow as tf
from keras import tree

from keras_svag.trainer.structures import map_arrays


def limit_threads(count):
    """Limits TensorFlow to `count` threads; must come before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def reset_metrics(model, condition):
    """Resets a model's metrics inside a compiled program if `condition` (a tensor) holds."""
    # Inside the program: outside, one assignment a variable costs more than a hundred steps.
    tf.cond(condition, lambda: (model.reset_metrics(), 0)[1], lambda: 0)


class TensorFlowLoop:
    """What is compiled of a `ResidentLoop`.

    `_compile(data)` puts the data on the device and makes the program. `_call` takes `count` steps,
    the metrics being reset if `fresh`; it gives steps taken, loss and logs.
    """

    def _compile(self, data):
        self._data = tree.map_structure(tf.constant, data)
        self._program = tf.function(self._many_steps, jit_compile=True)

    def _one_step(self, row, draws):
        batch = tree.map_structure(lambda a: tf.gather(a, row), self._data)
        return self._model.train_step(self._prepared(batch, draws))["loss"]

    def _many_steps(self, rows, draws, count, fresh):
        self.num_traces += 1
        reset_metrics(self._model, fresh)

        def body(step, loss):
            drawn = map_arrays(lambda a: a[step], draws)
            return step + 1, tf.cast(self._one_step(rows[step], drawn), loss.dtype)

        def go_on(step, loss):
            # `loss` is the running mean: once not finite it stays so, and the loop ends there.
            return (step < count) & tf.math.is_finite(loss)

        start = (tf.constant(0), tf.constant(0.0))
        step, loss = tf.while_loop(go_on, body, start) if self._inside_xla else body(*start)
        logs = {**self._model.get_metrics_result(), **self._model._noise_logs()}
        return step, loss, logs

    def _call(self, rows, draws, count, fresh):
        rows, draws = map_arrays(tf.constant, (rows, draws))
        return self._program(rows, draws, tf.constant(count), tf.constant(fresh))


class TensorFlowEvaluation:
    """What is compiled of a `ResidentEvaluation`.

    `_call` evaluates a batch, the metrics being reset if `fresh`, and gives the logs.
    """

    def _on_device(self, array):
        return tf.constant(array)

    def _compiled(self):
        return tf.function(self._one_batch, jit_compile=True)

    def _one_batch(self, batch, fresh):
        self.num_traces += 1
        reset_metrics(self._model, fresh)
        return self._model.test_step(self._prepared(batch))

    def _call(self, batch, fresh):
        return self._program(batch, tf.constant(fresh))
