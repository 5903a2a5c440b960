"""The compiled programs of `DeviceTrainLoop` and `DeviceEvaluation` on JAX."""

import os

import jax
import jax.numpy as jnp

from keras_svag import _keras
from keras_svag.distribution.jax import num_replicas, replicated, sharded, to_device
from keras_svag.trainer.jax import assign, compiled, state_of, stateless, values_of
from keras_svag.trainer.structures import first_leaf, map_arrays


def limit_threads(count):
    """Limits XLA on the CPU to `count` threads; must come before JAX's first operation."""
    # Read by XLA when its client starts: the size of its pool, and whether operations use it.
    os.environ["NPROC"] = str(count)
    if count == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def reset_metrics_if(model, condition):
    """Resets the metrics inside a compiled program if `condition`, a boolean array, holds."""
    variables = model.metrics_variables
    values = values_of(variables)
    _, reset = stateless(model.reset_metrics, variables)(values)
    assign(variables, [jnp.where(condition, new, old) for new, old in zip(reset, values)])


def take_rows(data, row):
    """Gathers the examples of a row of indices from each array of a structure."""
    # `_check_indices` makes sure that they are in bounds.
    return map_arrays(lambda a: a.at[row].get(mode="promise_in_bounds"), data)


class BackendLoop:
    """The part of `DeviceTrainLoop` that depends on the backend.

    `_compile` puts the data on the device and makes the program; `_call` takes `count` steps and
    returns the number of steps done, the loss and the logs.
    """

    def _compile(self, data):
        # An argument of the program, because JAX compiles a copy of what a program closes over.
        self._data = map_arrays(to_device, data)
        self._num_examples = len(first_leaf(data))
        self._program = None

    def _one_step(self, data, row, augment_params):
        batch = self._prepare_batch(sharded(take_rows(data, row)), augment_params)
        variables = state_of(self._model)
        logs, values = self._model.train_step(values_of(variables), batch)
        assign(jax.tree.leaves(variables), jax.tree.leaves(values))
        return jnp.asarray(logs["loss"], jnp.float32)

    def _many_steps(self, data, rows, augment_params, count, reset_metrics):
        self.num_traces += 1
        reset_metrics_if(self._model, reset_metrics)
        one_step = stateless(self._one_step, self._variables)

        def body(carry):
            step, _, values = carry
            params = map_arrays(lambda a: a[step], augment_params)
            loss, values = one_step(values, data, rows[step], params)
            return step + 1, loss, values

        def cond_fn(carry):
            # `loss` is a running mean: once it is not finite, it stays so and the loop ends.
            step, loss, _ = carry
            return (step < count) & jnp.isfinite(loss)

        start = (jnp.int32(0), jnp.float32(0), values_of(self._variables))
        end = jax.lax.while_loop(cond_fn, body, start) if self._fuse_steps else body(start)
        step, loss, values = end
        assign(self._variables, values)
        return step, loss, self._model._train_logs()

    def _check_indices(self, rows):
        if rows.min(initial=0) < 0 or rows.max(initial=0) >= self._num_examples:
            raise ValueError(
                f"`rows` must contain indices of the {self._num_examples} examples. "
                f"Received: rows from {rows.min()} to {rows.max()}."
            )

    def _make_program(self, rows, augment_params):
        """Makes the program at the first call: its shapes may depend on `augment_params`."""
        if self._program is None:
            params = map_arrays(lambda a: a[0], augment_params)
            batch = self._prepare_batch(take_rows(self._data, rows[0]), params)
            _keras.build_for_training(self._model, batch)
            self._variables = jax.tree.leaves(state_of(self._model))
            self._program = compiled(self._many_steps, self._variables)

    def first_call(self, rows, augment_params=None):
        """Returns what `run` calls first: a function of `jax.jit`, and its arguments."""
        count, rows, augment_params = self._segment(rows, augment_params, 0)
        self._make_program(rows, augment_params)
        values = values_of(self._variables)
        return self._program.program, (values, self._data, rows, augment_params, count, True)

    def _call(self, rows, augment_params, count, reset_metrics):
        self._check_indices(rows)
        self._make_program(rows, augment_params)
        rows, augment_params = replicated((rows, augment_params))
        return jax.device_get(self._program(self._data, rows, augment_params, count, reset_metrics))


class BackendEvaluation:
    """The part of `DeviceEvaluation` that depends on the backend."""

    def _to_device(self, array):
        can_shard = num_replicas() > 1 and len(array) % num_replicas() == 0
        return sharded(array) if can_shard else to_device(array)

    def _compiled(self):
        return jax.jit(self._one_batch)

    def _variables(self):
        trainable, non_trainable, _, metrics = state_of(self._model)
        return trainable, non_trainable, metrics

    def _one_batch(self, state, batch, reset_metrics):
        self.num_traces += 1
        metrics = self._variables()[-1]
        reset = stateless(lambda: reset_metrics_if(self._model, reset_metrics), metrics)
        trainable, non_trainable, values = state
        _, values = reset(values)
        state = (trainable, non_trainable, values)
        logs, (_, *changed) = self._model.test_step(state, self._prepare_batch(batch))
        return logs, changed

    def first_call(self):
        """Returns what `run` calls first: a function of `jax.jit`, and its arguments."""
        return self._program, (values_of(self._variables()), self._batches[0], True)

    def _call(self, batch, reset_metrics):
        variables = self._variables()
        logs, values = self._program(values_of(variables), batch, reset_metrics)
        assign(jax.tree.leaves(variables[1:]), jax.tree.leaves(values))
        return jax.device_get(logs)
