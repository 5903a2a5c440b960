"""The compiled programs of `GaussianNoiseLoop` on JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from keras_svag.device_loop.jax import reset_metrics_if
from keras_svag.device_loop.loop import pad_rows
from keras_svag.theory import gaussian_loss_weights
from keras_svag.trainer.jax import assign, compiled, stateless, values_of
from keras_svag.trainer.structures import map_arrays


class BackendPrograms:
    """The part of `GaussianNoiseLoop` that depends on the backend.

    `_call` takes `count` steps in one program. Where the loops are in Python,
    `_compiled_add_chunk` adds the gradient of a chunk and `_compiled_take_step` takes a step.
    """

    def _compile(self, chunks, rest):
        self._chunks, self._rest = map_arrays(jnp.asarray, (chunks, rest))
        model = self._model
        self._variables = [*model.variables, *model.metrics_variables]
        self._program = compiled(self._many_steps, self._variables)
        self._compiled_add_chunk = compiled(self._add_chunk, self._variables)
        self._compiled_take_step = compiled(self._take_step, model.trainable_variables)

    def first_call(self, normals, batch_size):
        """Returns what `run` calls first: a function of `jax.jit`, and its arguments."""
        normals = pad_rows(normals[: self._steps_per_call], self._steps_per_call)
        weights = gaussian_loss_weights(normals, batch_size, 1).astype(np.float32)
        rates = np.zeros(len(weights), np.float32)
        arguments = (weights, rates, np.float32(0.0), len(weights), True)
        values = values_of(self._variables)
        return self._program.program, (values, self._chunks, self._rest, *arguments)

    def _call(self, *arguments):
        # The data are arguments, because JAX compiles a copy of what a program closes over.
        return jax.device_get(self._program(self._chunks, self._rest, *arguments))

    def _many_steps(self, chunks, rest, weights, rates, decay, count, reset_metrics):
        self.num_traces += 1
        reset_metrics_if(self._model, reset_metrics)
        one_step = stateless(self._one_step, self._variables)

        def body(carry):
            step, _, values = carry
            loss, values = one_step(values, chunks, rest, weights[step], rates[step], decay)
            return step + 1, loss, values

        def cond_fn(carry):
            step, loss, _ = carry
            return (step < count) & jnp.isfinite(loss)

        start = (jnp.int32(0), jnp.float32(0), values_of(self._variables))
        step, _, values = jax.lax.while_loop(cond_fn, body, start)
        assign(self._variables, values)
        return step, self._model.get_metrics_result()

    def _one_step(self, chunks, rest, weights, rate, decay):
        loss, gradients = self._full_gradient(chunks, rest, weights)
        self._take_step(gradients, rate, decay)
        return loss

    def _full_gradient(self, chunks, rest, weights):
        """Returns the unweighted loss and the gradient of the weighted loss over all examples."""
        weights, rest_weights = weights[: self._num_chunked], weights[self._num_chunked :]
        weights = jnp.reshape(weights, (-1, self._chunk_size))
        add_chunk = stateless(self._add_chunk, self._variables)

        def body(carry, inputs):
            total, values = carry
            return add_chunk(values, total, *inputs), None

        start = (self._zeros(), values_of(self._variables))
        (total, values), _ = jax.lax.scan(body, start, (chunks, weights))
        assign(self._variables, values)
        return self._add_chunk(total, rest, rest_weights) if len(rest_weights) else total
