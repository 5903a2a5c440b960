"""Train steps of several runs of one model side by side, as one vectorised program of JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from keras_svag.device_loop.jax import reset_metrics_if
from keras_svag.device_loop.loop import DeviceTrainLoop
from keras_svag.trainer.jax import assign, state_of, stateless, values_of
from keras_svag.trainer.structures import map_arrays


class VmappedTrainLoop(DeviceTrainLoop):
    """Many train steps of several members over the same data, which stay on the device.

    A member is what all variables of the model hold: weights, batch-norm statistics, optimizer and
    metrics. The members' values are stacked along a new first axis, and the train step is
    vectorised over it (`jax.vmap`). Members do not touch each other: one whose loss is no longer
    finite leaves the others as they are. What each computes is what `DeviceTrainLoop` does from the
    same values, up to rounding: sums may be taken in another order.

    Args:
        model: a compiled `SVAGModel` that has all its variables, as after a first step.
        data: structure of arrays as `fit` takes it, such as `(x, y)`, of n examples each.
        steps_per_call: largest number of steps in one call of the program.
        prepare: as for `DeviceTrainLoop`. Defaults to `None`.
        fuse_steps: as for `DeviceTrainLoop`. Defaults to `None`.
    """

    def __init__(self, model, data, steps_per_call, prepare=None, fuse_steps=None):
        super().__init__(model, data, steps_per_call, prepare, fuse_steps)
        self._variables = jax.tree.leaves(state_of(model))
        self._members = 0
        self._stacked = None
        self._program = jax.jit(self._steps_of_members, donate_argnums=0)
        # One program for all variables: a call for each would cost more than some steps.
        self._pick = jax.jit(lambda stacked, index: [values[index] for values in stacked])

    def values(self):
        """What the model's variables hold now: a list of arrays, to `stack` as a member."""
        return values_of(self._variables)

    def stack(self, members):
        """Begins with members; those before, if any, are forgotten.

        Args:
            members: list of what `values` gave.
        """
        self._members = len(members)
        self._stacked = [jnp.stack(values) for values in zip(*members, strict=True)]

    def select(self, index):
        """Gives the model's variables the values of a member.

        Args:
            index: int, its place among the members.
        """
        assign(self._variables, self._pick(self._stacked, index))

    def release(self):
        """Forgets the members, so that their memory is free."""
        self._members, self._stacked = 0, None

    def run(self, rows, augment_params=None, reset_metrics=True):
        """Takes one step of every member for each row.

        Args:
            rows: integer array of shape `(steps, members, 2B)`: the examples of each step.
            augment_params: structure of arrays with the same first two axes, for `prepare`. Defaults to
                `None`.
            reset_metrics: whether the metrics begin here; otherwise they go on from where they are.
                Defaults to `True`.

        Returns:
            A list with, for each member, what `DeviceTrainLoop.run` returns.

        Raises:
            MemoryError: if the device has no room for so many members; they are forgotten then.
            ValueError: if there are not as many members as `stack` was given.
        """
        rows = np.asarray(rows, np.int32)
        self._check_members(rows)
        steps_done = np.zeros(self._members, int)
        going = np.ones(self._members, bool)
        done = 0
        while True:
            count, part, params = self._piece(rows, augment_params, done)
            counts, losses, logs = self._call(
                part, params, count, reset_metrics=reset_metrics and done == 0
            )
            steps_done += np.where(going, counts, 0)
            going &= np.isfinite(losses)
            done += count
            if done >= len(rows) or not going.any():
                return [
                    (int(steps_done[i]), {name: float(values[i]) for name, values in logs.items()})
                    for i in range(self._members)
                ]

    def _check_members(self, rows):
        if rows.ndim != 3 or rows.shape[1] != self._members:
            raise ValueError(
                f"`rows` must be of shape (steps, {self._members}, 2B), the second axis being the "
                f"members that were stacked. Received: rows of shape {rows.shape}"
            )

    def _call(self, rows, augment_params, count, reset_metrics):
        self._check_indices(rows)
        stacked, self._stacked = self._stacked, None  # the program takes their memory
        try:
            result, stacked = self._program(
                stacked, self._data, rows, augment_params, count, reset_metrics
            )
            result = jax.device_get(result)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(
                f"the device has no room for {self._members} runs side by side ({error})"
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
            # A member whose loss is not finite computes on, to nobody's harm, and is not counted.
            steps_done = steps_done + jnp.isfinite(losses)
            params = map_arrays(lambda a: a[step], augment_params)
            losses, stacked = one_step(stacked, data, rows[step], params)
            return step + 1, steps_done, losses, stacked

        def cond_fn(carry):
            # `losses` are running means: once not finite they stay so.
            step, _, losses, _ = carry
            return (step < count) & jnp.isfinite(losses).any()

        members = rows.shape[1]
        start = (jnp.int32(0), jnp.zeros(members, "int32"), jnp.zeros(members), stacked)
        loop = jax.lax.while_loop(cond_fn, body, start) if self._fuse_steps else body(start)
        _, steps_done, losses, stacked = loop
        logs, _ = jax.vmap(stateless(self._logs, self._variables))(stacked)
        return (steps_done, losses, logs), stacked
