"""The steps of `steps_per_execution=K` as one XLA program on JAX."""

import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_svag.distribution.jax import is_distributed
from keras_svag.xla_policy import should_fuse_steps


def fuse_steps(model, train_function):
    """The fastest way to take `steps_per_execution` steps of a model.

    Keras starts one compiled program a step from a loop of Python. Where all K steps can be one
    program instead (see `should_fuse_steps`), its start is paid once in K steps.

    Args:
        model: a compiled model with the split-batch train step.
        train_function: the function of a state and an iterator that Keras made for it.

    Returns:
        A function of a state and an iterator that takes up to K steps and returns the logs and the
        new state.
    """
    inside = (
        model.steps_per_execution > 1
        and model.jit_compile
        and not model.run_eagerly
        and model._logs_are_metric_results
        and not is_distributed()
        and should_fuse_steps(model)
    )
    return FusedSteps(model, train_function) if inside else train_function


class FusedSteps:
    """Takes K batches from an iterator and K steps in one XLA program.

    Batches are stacked, so a program takes those that follow each other in one shape. Where there
    are less than K (the end of an epoch), the stack is padded and the number of steps is data.

    Args:
        model: a compiled model with the split-batch train step.
        one_by_one: function of a state and an iterator for a batch without others of its shape
            beside it, such as a smaller last one.
    """

    def __init__(self, model, one_by_one):
        self._model = model
        self._one_by_one = one_by_one
        self._most = model.steps_per_execution
        # The old state is given to the program, so that large weights are not there twice.
        self._program = jax.jit(self._take_steps, donate_argnums=0)

    def __call__(self, state, iterator):
        """Takes up to K steps.

        Args:
            state: the values of the model's variables, as for `train_step`.
            iterator: what `fit` reads batches from.

        Returns:
            A tuple of a dict of logs, those after the last step, and the new state.

        Raises:
            StopIteration: if there was no batch left.
        """
        logs = None
        batches = map(_kept, itertools.islice(iterator, self._most))
        for _, alike in itertools.groupby(batches, _shapes):
            alike = list(alike)
            if len(alike) == 1:
                logs, state = self._one_by_one(state, iter(alike))
            else:
                stacks = jax.tree.map(lambda *leaves: _stack(leaves, self._most), *alike)
                logs, state = self._program(state, stacks, len(alike))
        if logs is None:
            raise StopIteration
        return logs, state

    def _take_steps(self, state, stacks, count):
        def step(done, state):
            return self._model.train_step(state, jax.tree.map(lambda a: a[done], stacks))[1]

        state = jax.lax.fori_loop(0, count, step, state)
        # Metrics are sums over steps: their results are the logs of the last one.
        metrics = list(zip(self._model.metrics_variables, state[-1], strict=True))
        with keras.StatelessScope(state_mapping=metrics):
            logs = {**self._model.get_metrics_result(), **self._model._noise_logs()}
        return logs, state


def _kept(batch):
    """The batch in memory of its own: a generator may fill the same array again and again."""
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.array(a), batch)


def _shapes(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _stack(leaves, length):
    """Stacks arrays; rows after the given ones repeat the last, and no step reads them."""
    leaves = list(leaves) + [leaves[-1]] * (length - len(leaves))
    # What is on the device is stacked there.
    return _stack_on_device(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)


_stack_on_device = jax.jit(jnp.stack)
