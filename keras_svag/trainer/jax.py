"""The split-batch train step on JAX, where a step is a pure function of the model's state."""

import jax
import keras

from keras_svag import _keras
from keras_svag.distribution.jax import num_replicas, replicated
from keras_svag.fused_steps.jax import fuse_steps
from keras_svag.trainer.step import SplitBatchStep
from keras_svag.trainer.structures import first_leaf, map_arrays


def split_batch(data, drop_odd):
    """Splits a batch into its even positions (first half) and odd positions (second half).

    Args:
        data: structure of arrays that share their first axis, of length n >= 1.
        drop_odd: whether the last example of an odd batch is left out, so that both halves are of
            equal size. Otherwise the first half has one example more.

    Returns:
        A tuple `(first, second)`. A batch of one example gives that example twice.
    """
    length = len(first_leaf(data))
    half, start = max(length // 2, 1), min(1, length - 1)

    def even(array):
        return array[::2][:half] if drop_odd else array[::2]

    return map_arrays(even, data), map_arrays(lambda array: array[start::2], data)


def state_of(model):
    """The variables of a compiled model, in the order of `train_step`.

    Args:
        model: a built, compiled `keras.Model`.

    Returns:
        A tuple of four lists of variables: trainable, non-trainable, optimizer, metrics.
    """
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def values_of(variables):
    """The values of a structure of variables, in the scope that is open if there is one."""
    return jax.tree.map(lambda variable: variable.value, variables)


def assign(variables, values):
    """Gives each of a list of variables its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def stateless(function, variables):
    """Makes a function that reads and assigns variables a pure one.

    Args:
        function: any function that JAX can trace.
        variables: list of all Keras variables that it reads or assigns.

    Returns:
        A function of the variables' values and the arguments, which gives what `function` gives
        and the new values.
    """

    def pure(values, *arguments):
        mapping = list(zip(variables, values, strict=True))
        # Losses that layers add are kept for `compute_loss`, which is called in the same scope.
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            result = function(*arguments)
            new_values = [scope.get_current_value(variable) for variable in variables]
        return result, new_values

    return pure


def compiled(function, variables):
    """Compiles a function that reads and assigns variables, as `tf.function` would.

    Args:
        function: any function that JAX can trace.
        variables: list of all Keras variables that it reads or assigns.

    Returns:
        A function of the same arguments. The variables' old buffers are given to the program, so
        that large weights are not there twice.
    """
    pure = stateless(function, variables)

    def placed(values, *arguments):
        result, values = pure(values, *arguments)
        return result, replicated(values)

    program = jax.jit(placed, donate_argnums=0)

    def call(*arguments):
        result, values = program(values_of(variables), *arguments)
        assign(variables, values)
        return result

    call.program = program
    return call


def differentiate(function, get_weights, others):
    """Gradients of a function of variables.

    Args:
        function: function without arguments that gives a tuple of a scalar and anything else.
        get_weights: function that gives the list of Keras variables.
        others: list of the other variables that the function reads or assigns.

    Returns:
        A tuple: what else the function gave, and the list of gradients of the scalar.
    """
    weights = get_weights()

    def scalar_of(values):
        (scalar, result), new_values = stateless(function, weights + others)(
            values + values_of(others)
        )
        # JAX hands on copies of what is returned, which have lost their Keras masks.
        return scalar, (result, _keras.masks_of(result), new_values[len(weights) :])

    outputs = jax.grad(scalar_of, has_aux=True)(values_of(weights))
    gradients, (result, masks, new_values) = outputs
    assign(others, new_values)
    return _keras.with_masks(result, masks), gradients


class BackendStep(SplitBatchStep):
    """`train_step` for the JAX backend."""

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """Trains the model: see `keras.Model.fit`."""
        # Here and not in the step: an array's length is static, that of a last batch of one too.
        self._check_batch_length(batch_size, num_replicas())
        if isinstance(x, keras.utils.PyDataset):
            # Keras would begin one epoch to see how batches look, and the next one to train.
            _keras.build_for_training(self, x[0])
        return super().fit(x, y, batch_size, *args, **kwargs)

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for each `steps_per_execution` batches.

        Args:
            force: whether to make it anew. Defaults to `False`.

        Returns:
            A function of a state and an iterator that takes the steps and returns the logs and the
            new state.
        """
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = fuse_steps(self, self.train_function)
        return self.train_function

    def train_step(self, state, data):
        """One SVAG step on a batch of 2B examples: two forward passes, one update.

        Args:
            state: tuple of the values of the model's trainable, non-trainable, optimizer and
                metrics variables.
            data: a batch as `fit` hands it over: `x`, `(x, y)` or `(x, y, sample_weight)`, each a
                structure of arrays with 2B examples.

        Returns:
            A tuple `(logs, state)`: a dict of loss, compiled metrics, gradient noise and signal,
            and the new state.
        """
        variables = state_of(self)
        leaves, structure = jax.tree.flatten(variables)
        pure = stateless(self._stateful_step, leaves)
        logs, values = pure(jax.tree.leaves(state), data)
        return logs, jax.tree.unflatten(structure, values)

    def _stateful_step(self, data):
        data = keras.utils.unpack_x_y_sample_weight(data)
        first, second = split_batch(data, drop_odd=self._svag is not None)
        # The second half of a batch of one is that example again: it counts for nothing.
        size2 = len(first_leaf(second)) if len(first_leaf(data)) > 1 else 0
        return self._step_of_halves(first, second, len(first_leaf(first)), size2)

    def _differentiate(self, function, get_weights):
        known = set(map(id, get_weights()))
        others = [v for v in jax.tree.leaves(state_of(self)) if id(v) not in known]
        return differentiate(function, get_weights, others)

    def _update(self, gradients):
        weights, variables = self.trainable_variables, self.optimizer.variables
        values = self.optimizer.stateless_apply(values_of(variables), gradients, values_of(weights))
        assign(weights + variables, values[0] + values[1])

    def _num_replicas(self):
        # The program is a global one, also where data are cut over several devices.
        return 1
