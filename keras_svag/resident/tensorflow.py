"""Many steps, or a whole evaluation, in compiled programs over data that stay on the device."""

import math

import tensorflow as tf
from keras import tree

from keras_svag.loops import loops_inside_xla
from keras_svag.trainer.tensorflow import first_leaf, map_arrays


def limit_threads(count):
    """Limits TensorFlow to `count` threads; must come before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def reset_metrics(model, condition):
    """Resets a model's metrics inside a compiled program if `condition` (a tensor) holds."""
    # Inside the program: outside, one assignment a variable costs more than a hundred steps.
    tf.cond(condition, lambda: (model.reset_metrics(), 0)[1], lambda: 0)


class ResidentLoop:
    """Many train steps over arrays that stay on the device.

    The compiled program gathers each batch by a row of example indices, so nothing is copied from
    the host but those rows. Where the network allows (see `loops_inside_xla`) one call of the
    program takes many steps. Rows are then padded to `steps_per_call`, so that the number of steps
    is data and the program is compiled once.

    Args:
        model: a built, compiled `SVAGModel`.
        data: structure of arrays as `fit` takes it, such as `(x, y)`, of n examples each.
        steps_per_call: largest number of steps in one call of the program.
        prepare: function of a batch's inputs x and its row of `draws` (or `None`) that gives what
            the model is to see, such as augmented and normalised images. Defaults to `None`: x.
        inside_xla: whether the loop over steps is inside the compiled program. Defaults to `None`:
            by `loops_inside_xla`.
    """

    def __init__(self, model, data, steps_per_call, prepare=None, inside_xla=None):
        self._model = model
        self._data = tree.map_structure(tf.constant, data)
        self._prepare = prepare
        self._inside_xla = loops_inside_xla(model) if inside_xla is None else inside_xla
        self._steps_per_call = steps_per_call if self._inside_xla else 1
        self.num_traces = 0
        self._program = tf.function(self._many_steps, jit_compile=True)

    def _one_step(self, row, draws):
        batch = tree.map_structure(lambda a: tf.gather(a, row), self._data)
        if self._prepare is not None:
            x, *rest = batch
            batch = (self._prepare(x, draws), *rest)
        return self._model.train_step(batch)["loss"]

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

    def run(self, rows, draws=None):
        """Takes one step for each row.

        Args:
            rows: integer array of shape `(steps, 2B)`: the examples of each step.
            draws: structure of arrays with a row per step, for `prepare`. Defaults to `None`.

        Returns:
            A tuple `(steps, logs)`: the number of steps taken (fewer than asked for if the loss
            stopped being finite; the last one taken is the one at fault) and the model's metrics
            over them.
        """
        done = 0
        while True:
            count = min(self._steps_per_call, len(rows) - done)
            piece = slice(done, done + count)
            part, drawn = map_arrays(lambda a, p=piece: self._padded(a[p]), (rows, draws))
            taken, loss, logs = self._program(
                tf.cast(part, tf.int32), drawn, tf.constant(count), tf.constant(done == 0)
            )
            done += int(taken)
            if int(taken) < count or done >= len(rows) or not math.isfinite(loss):
                return done, {name: float(value) for name, value in logs.items()}

    def _padded(self, rows):
        padding = [[0, self._steps_per_call - len(rows)]] + [[0, 0]] * (rows.ndim - 1)
        return tf.pad(rows, padding)


class ResidentEvaluation:
    """Loss and metrics over arrays that stay on the device, in one compiled program.

    Args:
        model: a built, compiled model.
        data: structure of arrays as `evaluate` takes it.
        batch_size: largest number of examples in one forward pass. Defaults to `2048`.
        prepare: function of a batch's inputs that gives what the model is to see.
            Defaults to `None`: the inputs.
        like: another evaluation of this model whose compiled program is to be used, or `None`.
    """

    def __init__(self, model, data, batch_size=2048, prepare=None, like=None):
        self._model = model
        self._prepare = prepare
        length = len(first_leaf(data))
        # Pieces of one size where that can be: each size is a program to compile.
        size = math.ceil(length / math.ceil(length / batch_size))
        pieces = [slice(start, start + size) for start in range(0, length, size)]
        self._batches = [
            tree.map_structure(lambda a, piece=piece: tf.constant(a[piece]), data)
            for piece in pieces
        ]
        self._step = like._step if like else tf.function(self._one_batch, jit_compile=True)

    def _one_batch(self, batch, fresh):
        reset_metrics(self._model, fresh)
        if self._prepare is not None:
            x, *rest = batch
            batch = (self._prepare(x), *rest)
        return self._model.test_step(batch)

    def run(self):
        """Evaluates the model as it is now.

        Returns:
            A dict of floats.
        """
        for i, batch in enumerate(self._batches):
            logs = self._step(batch, tf.constant(i == 0))
        return {name: float(value) for name, value in logs.items()}
