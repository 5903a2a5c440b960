"""The steps of `steps_per_execution=K` as one XLA program on JAX."""

import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np


class FusedSteps:
    """A train function that takes K batches from an iterator and K steps in one XLA program.

    Keras starts one compiled program per step from a Python loop. Here consecutive batches of equal
    shape are stacked. A shorter stack (at the end of an epoch) is padded, and the number of steps
    is an argument, so that the program is not compiled again. A batch without another one of its
    shape goes to the `train_function` of Keras.
    """

    def __init__(self, model, train_function):
        self._model = model
        self._train_function = train_function
        self._max_steps = model.steps_per_execution
        # The old state is donated: otherwise weights would be in memory twice.
        self._program = jax.jit(self._take_steps, donate_argnums=0)

    def __call__(self, state, iterator):
        """Takes up to K steps; returns the logs after the last one and the new state."""
        logs = None
        batches = map(_copy, itertools.islice(iterator, self._max_steps))
        for _, group in itertools.groupby(batches, _shapes):
            same_shape = list(group)
            if len(same_shape) == 1:
                logs, state = self._train_function(state, iter(same_shape))
            else:
                stacks = jax.tree.map(lambda *leaves: _stack(leaves, self._max_steps), *same_shape)
                logs, state = self._program(state, stacks, len(same_shape))
        if logs is None:
            raise StopIteration
        return logs, state

    def first_call(self, state, batch):
        """Returns what a full call runs: a function of `jax.jit`, and its arguments."""
        count = self._max_steps
        stacks = jax.tree.map(lambda array: np.broadcast_to(array, (count, *array.shape)), batch)
        return self._program, (state, stacks, count)

    def _take_steps(self, state, stacks, count):
        def body(step, state):
            return self._model.train_step(state, jax.tree.map(lambda a: a[step], stacks))[1]

        state = jax.lax.fori_loop(0, count, body, state)
        # Metrics are sums over steps: their results are the logs of the last one.
        metrics = list(zip(self._model.metrics_variables, state[-1], strict=True))
        with keras.StatelessScope(state_mapping=metrics):
            logs = self._model._train_logs()
        return logs, state


def _copy(batch):
    """Returns a batch in memory of its own: a generator may fill the same array again."""
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.array(a), batch)


def _shapes(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _stack(leaves, length):
    """Stacks arrays and pads the stack to `length` by repeating the last one."""
    leaves = list(leaves) + [leaves[-1]] * (length - len(leaves))
    # Arrays on the device are stacked there.
    return _stack_on_device(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)


_stack_on_device = jax.jit(jnp.stack)
