"""Train steps of several runs of one model, vectorized with `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np

from keras_svag.device_loop.jax import reset_metrics_if
from keras_svag.device_loop.loop import DeviceTrainLoop
from keras_svag.trainer.jax import assign, state_of, stateless, values_of
from keras_svag.trainer.structures import map_arrays


class VmappedTrainLoop(DeviceTrainLoop):
    """Train steps of several members over the same data, which stay on the device.

    A member is one set of values of all variables of the model: weights, batch-norm statistics,
    optimizer and metrics. The values are stacked along a new first axis, over which the train step
    is vectorized (`jax.vmap`). Members are independent: if the loss of one is no longer finite, the
    others go on. Each computes what `DeviceTrainLoop` computes from the same values, up to
    rounding. The model must have all its variables, as after a first step.
    """

    def __init__(self, model, data, steps_per_call, prepare=None, fuse_steps=None):
        super().__init__(model, data, steps_per_call, prepare, fuse_steps)
        self._variables = jax.tree.leaves(state_of(model))
        self._members = 0
        self._stacked = None
        self._program = jax.jit(self._steps_of_members, donate_argnums=0)
        # One program for all variables: a call for each would take longer than several steps.
        self._unstack = jax.jit(lambda stacked, index: [values[index] for values in stacked])

    def values(self):
        """Returns the current values of the model's variables, to be stacked as a member."""
        return values_of(self._variables)

    def stack(self, members):
        """Replaces all members by those of a list of `values`."""
        self._members = len(members)
        self._stacked = [jnp.stack(values) for values in zip(*members, strict=True)]

    def select(self, index):
        """Assigns the values of one member to the model's variables."""
        assign(self._variables, self._unstack(self._stacked, index))

    def release(self):
        """Frees the memory of the members."""
        self._members, self._stacked = 0, None

    def run(self, rows, augment_params=None, reset_metrics=True):
        """Takes steps by rows of shape `(steps, members, 2B)`; returns one result for each."""
        rows = np.asarray(rows, np.int32)
        self._check_members(rows)
        steps_done = np.zeros(self._members, int)
        is_finite = np.ones(self._members, bool)
        done = 0
        while True:
            count, part, params = self._segment(rows, augment_params, done)
            counts, losses, logs = self._call(part, params, count, reset_metrics and done == 0)
            steps_done += np.where(is_finite, counts, 0)
            is_finite &= np.isfinite(losses)
            done += count
            if done >= len(rows) or not is_finite.any():
                return [
                    (int(steps_done[i]), {name: float(values[i]) for name, values in logs.items()})
                    for i in range(self._members)
                ]

    def first_call(self, rows, augment_params=None):
        """Returns what `run` calls first: a function of `jax.jit`, and its arguments."""
        count, rows, augment_params = self._segment(rows, augment_params, 0)
        return self._program, (self._stacked, self._data, rows, augment_params, count, True)

    def _check_members(self, rows):
        if rows.ndim != 3 or rows.shape[1] != self._members:
            raise ValueError(
                f"`rows` must have shape (steps, {self._members}, 2B), one row per member and "
                f"step. Received: rows of shape {rows.shape}."
            )

    def _call(self, rows, augment_params, count, reset_metrics):
        self._check_indices(rows)
        stacked, self._stacked = self._stacked, None  # donated to the program
        try:
            result, stacked = self._program(
                stacked, self._data, rows, augment_params, count, reset_metrics
            )
            result = jax.device_get(result)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(
                f"The device has no memory for {self._members} runs at once: {error}"
            ) from error
        self._stacked = stacked
        return result

    def _steps_of_members(self, stacked, data, rows, augment_params, count, reset_metrics):
        self.num_traces += 1
        reset = stateless(lambda: reset_metrics_if(self._model, reset_metrics), self._variables)
        _, stacked = jax.vmap(reset)(stacked)
        one_step = jax.vmap(stateless(self._one_step, self._variables), (0, None, 0, 0))

        def body(carry):
            step, steps_done, losses, stacked = carry
            # A member whose loss is not finite goes on, but its steps are not counted.
            steps_done = steps_done + jnp.isfinite(losses)
            params = map_arrays(lambda a: a[step], augment_params)
            losses, stacked = one_step(stacked, data, rows[step], params)
            return step + 1, steps_done, losses, stacked

        def cond_fn(carry):
            # `losses` are running means: once they are not finite, they stay so.
            step, _, losses, _ = carry
            return (step < count) & jnp.isfinite(losses).any()

        members = rows.shape[1]
        start = (jnp.int32(0), jnp.zeros(members, "int32"), jnp.zeros(members), stacked)
        end = jax.lax.while_loop(cond_fn, body, start) if self._fuse_steps else body(start)
        _, steps_done, losses, stacked = end
        logs, _ = jax.vmap(stateless(self._model._train_logs, self._variables))(stacked)
        return (steps_done, losses, logs), stacked
