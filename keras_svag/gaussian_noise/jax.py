"""The compiled programs of `GaussianNoiseLoop` on JAX."""

import jax
import jax.numpy as jnp

from keras_svag.device_loop.jax import reset_metrics_if
from keras_svag.trainer.jax import assign, compiled, stateless, values_of
from keras_svag.trainer.structures import map_arrays


class BackendPrograms:
    """What is compiled of a `GaussianNoiseLoop`.

    `_call` takes `count` steps in one program; `_add_chunk` adds the share of a chunk and `_move`
    takes a step, where the loops are in Python.
    """

    def _compile(self, chunks, rest):
        self._chunks, self._rest = map_arrays(jnp.asarray, (chunks, rest))
        model = self._model
        self._variables = [*model.variables, *model.metrics_variables]
        self._program = compiled(self._many_steps, self._variables)
        self._add_chunk = compiled(self._add_share, self._variables)
        self._move = compiled(self._take_step, model.trainable_variables)

    def _call(self, *arguments):
        # The data are arguments too: JAX would compile a copy of what it closes over.
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
        """Loss (without weights) and gradient of the weighted loss, over all examples."""
        weights, last = weights[: self._whole], weights[self._whole :]
        weights = jnp.reshape(weights, (-1, self._chunk_size))
        add_share = stateless(self._add_share, self._variables)

        def body(carry, inputs):
            total, values = carry
            return add_share(values, total, *inputs), None

        start = (self._zeros(), values_of(self._variables))
        (total, values), _ = jax.lax.scan(body, start, (chunks, weights))
        assign(self._variables, values)
        return self._add_share(total, rest, last) if len(last) else total
