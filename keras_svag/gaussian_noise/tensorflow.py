"""The compiled programs of `GaussianNoiseLoop` on TensorFlow."""

import tensorflow as tf

from keras_svag.device_loop.tensorflow import reset_metrics_if
from keras_svag.trainer.structures import map_arrays
from keras_svag.xla_policy.tensorflow import compiled, jit_scope_of


class BackendPrograms:
    """The part of `GaussianNoiseLoop` that depends on the backend.

    `_call` takes `count` steps in one program. Where the loops are in Python,
    `_compiled_add_chunk` adds the gradient of a chunk and `_compiled_take_step` takes a step.
    """

    def _compile(self, chunks, rest):
        self._chunks, self._rest = map_arrays(tf.constant, (chunks, rest))
        self._program = compiled(self._many_steps)
        jit_scope = jit_scope_of(self._model)
        self._compiled_add_chunk = compiled(self._add_chunk, jit_scope)
        self._compiled_take_step = compiled(self._take_step, jit_scope)

    def _call(self, *arguments):
        return self._program(*map(tf.constant, arguments))

    def _many_steps(self, weights, rates, decay, count, reset_metrics):
        self.num_traces += 1
        reset_metrics_if(self._model, reset_metrics)

        def body(step, loss):
            loss, gradients = self._full_gradient(weights[step])
            self._take_step(gradients, rates[step], decay)
            return step + 1, loss

        def cond_fn(step, loss):
            return (step < count) & tf.math.is_finite(loss)

        step, _ = tf.while_loop(cond_fn, body, [tf.constant(0), tf.constant(0.0)])
        return step, self._model.get_metrics_result()

    def _full_gradient(self, weights):
        """Returns the unweighted loss and the gradient of the weighted loss over all examples."""
        weights, rest = weights[: self._num_chunked], weights[self._num_chunked :]
        weights = tf.reshape(weights, (-1, self._chunk_size))

        def body(i, *total):
            chunk = map_arrays(lambda a: tf.gather(a, i), self._chunks)
            return i + 1, *self._add_chunk(total, chunk, tf.gather(weights, i))

        start = (tf.constant(0), *self._zeros())
        _, *total = tf.while_loop(lambda i, *_: i < weights.shape[0], body, start)
        return self._add_chunk(total, self._rest, rest) if rest.shape[0] else total
