"""Many steps, or a whole evaluation, in one XLA program over data that stay on the device."""

import tensorflow as tf
from keras import tree

from keras_svag.trainer.tensorflow import first_leaf


def limit_threads(count):
    """Limits TensorFlow to `count` threads; must come before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def reset_metrics(model, condition):
    """Resets a model's metrics inside a compiled program if `condition` (a tensor) holds."""
    # Inside the program: outside, one assignment a variable costs more than a hundred steps.
    tf.cond(condition, lambda: (model.reset_metrics(), 0)[1], lambda: 0)


class ResidentLoop:
    """Many train steps in one compiled program, over arrays that stay on the device.

    The program gathers each batch by a row of example indices, so nothing is copied from the host
    but those rows. Rows are padded to `steps_per_call`, so that the number of steps is data and
    the program is compiled once.

    Args:
        model: a built, compiled `SVAGModel`.
        data: structure of arrays as `fit` takes it, such as `(x, y)`, of n examples each.
        steps_per_call: largest number of steps in one call of the program.
    """

    def __init__(self, model, data, steps_per_call):
        self._model = model
        self._data = tree.map_structure(tf.constant, data)
        self._steps_per_call = steps_per_call
        self.num_traces = 0
        self._program = tf.function(self._many_steps, jit_compile=True)

    def _many_steps(self, rows, count, fresh):
        self.num_traces += 1
        model = self._model
        reset_metrics(model, fresh)

        def body(step, loss):
            batch = tree.map_structure(lambda a: tf.gather(a, rows[step]), self._data)
            return step + 1, tf.cast(model.train_step(batch)["loss"], loss.dtype)

        def go_on(step, loss):
            # `loss` is the running mean: once not finite it stays so, and the loop ends there.
            return (step < count) & tf.math.is_finite(loss)

        step, _ = tf.while_loop(go_on, body, [tf.constant(0), tf.constant(0.0)])
        return step, {**model.get_metrics_result(), **model._noise_logs()}

    def run(self, rows):
        """Takes one step for each row.

        Args:
            rows: integer array of shape `(steps, 2B)`: the examples of each step.

        Returns:
            A tuple `(steps, logs)`: the number of steps taken (fewer than asked for if the loss
            stopped being finite; the last one taken is the one at fault) and the model's metrics
            over them.
        """
        done = 0
        while True:
            part = rows[done : done + self._steps_per_call]
            count = len(part)
            padding = self._steps_per_call - count
            if padding:
                part = tf.pad(part, [[0, padding], [0, 0]])
            taken, logs = self._program(
                tf.constant(part, tf.int32), tf.constant(count), tf.constant(done == 0)
            )
            done += int(taken)
            if int(taken) < count or done >= len(rows):
                return done, {name: float(value) for name, value in logs.items()}


class ResidentEvaluation:
    """Loss and metrics over arrays that stay on the device, in one compiled program.

    Args:
        model: a built, compiled model.
        data: structure of arrays as `evaluate` takes it.
        batch_size: largest number of examples in one forward pass. Defaults to `2048`.
    """

    def __init__(self, model, data, batch_size=2048):
        self._model = model
        length = len(first_leaf(data))
        pieces = [slice(start, start + batch_size) for start in range(0, length, batch_size)]
        self._batches = [
            tree.map_structure(lambda a, piece=piece: tf.constant(a[piece]), data)
            for piece in pieces
        ]
        self._step = tf.function(self._one_batch, jit_compile=True)

    def _one_batch(self, batch, fresh):
        reset_metrics(self._model, fresh)
        return self._model.test_step(batch)

    def run(self):
        """Evaluates the model as it is now.

        Returns:
            A dict of floats.
        """
        for i, batch in enumerate(self._batches):
            logs = self._step(batch, tf.constant(i == 0))
        return {name: float(value) for name, value in logs.items()}
