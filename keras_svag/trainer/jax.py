"""The split-batch train step on JAX, where it is a pure function of the model's state."""

import jax
import keras

from keras_svag import _keras
from keras_svag.distribution.jax import num_replicas, replicated
from keras_svag.fused_steps import fuse_steps
from keras_svag.trainer.step import SplitBatchStep
from keras_svag.trainer.structures import first_leaf, split_batch
from keras_svag.xla_policy import has_accelerator


def state_of(model):
    """Returns the trainable, non-trainable, optimizer and metrics variables, as in `train_step`."""
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def values_of(variables):
    """Returns the values of a structure of variables, in the current scope if there is one."""
    return jax.tree.map(lambda variable: variable.value, variables)


def assign(variables, values):
    """Assigns a list of values to a list of variables."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def stateless(function, variables):
    """Returns a pure version `(values, *args) -> (result, new_values)` of a function."""

    def pure(values, *args):
        mapping = list(zip(variables, values, strict=True))
        # `compute_loss` is called in the same scope, so losses of layers are collected for it.
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            result = function(*args)
            new_values = [scope.get_current_value(variable) for variable in variables]
        return result, new_values

    return pure


def compiled(function, variables):
    """Compiles a function that reads and assigns `variables`, as `tf.function` would."""
    pure = stateless(function, variables)

    def replicate_state(values, *args):
        result, values = pure(values, *args)
        return result, replicated(values)

    # The old values are donated: otherwise weights would be in memory twice.
    program = jax.jit(replicate_state, donate_argnums=0)

    def call(*args):
        result, values = program(values_of(variables), *args)
        assign(variables, values)
        return result

    call.program = program
    return call


def differentiate(function, get_weights, other_variables):
    """Returns the result of a function and the gradients of the scalar beside it."""
    weights = get_weights()

    def scalar_of(values):
        (scalar, result), new_values = stateless(function, weights + other_variables)(
            values + values_of(other_variables)
        )
        # JAX returns copies of the result, which have lost their Keras masks.
        return scalar, (result, _keras.get_masks(result), new_values[len(weights) :])

    outputs = jax.grad(scalar_of, has_aux=True)(values_of(weights))
    gradients, (result, masks, new_values) = outputs
    assign(other_variables, new_values)
    return _keras.set_masks(result, masks), gradients


class BackendStep(SplitBatchStep):
    """`train_step` for the JAX backend."""

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """Trains the model, as `keras.Model.fit` does."""
        # Not checked in the step: there the length of a short last batch is static too.
        self._check_batch_length(batch_size, num_replicas())
        if isinstance(x, keras.utils.PyDataset):
            # Otherwise Keras would start one epoch to see the shapes of a batch, another to train.
            _keras.build_for_training(self, x[0])
        return super().fit(x, y, batch_size, *args, **kwargs)

    def make_train_function(self, force=False):
        """Makes the function that `fit` calls for every `steps_per_execution` batches."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = fuse_steps(self, self.train_function)
        return self.train_function

    def train_step(self, state, data):
        """Takes one SVAG step on a batch of 2B examples; returns the logs and the new state."""
        variables = state_of(self)
        leaves, structure = jax.tree.flatten(variables)
        pure = stateless(self._stateful_step, leaves)
        logs, values = pure(jax.tree.leaves(state), data)
        return logs, jax.tree.unflatten(structure, values)

    def _stateful_step(self, data):
        data = keras.utils.unpack_x_y_sample_weight(data)
        length = len(first_leaf(data))
        first, second = split_batch(data, length, drop_odd=self._svag is not None)
        # The second half of a batch of one repeats that example, so its size is 0.
        size2 = len(first_leaf(second)) if length > 1 else 0
        return self._split_step(first, second, len(first_leaf(first)), size2)

    def _differentiate(self, function, get_weights):
        weight_ids = set(map(id, get_weights()))
        others = [v for v in jax.tree.leaves(state_of(self)) if id(v) not in weight_ids]
        return differentiate(function, get_weights, others)

    def _update(self, gradients):
        weights, variables = self.trainable_variables, self.optimizer.variables
        values = self.optimizer.stateless_apply(values_of(variables), gradients, values_of(weights))
        assign(weights + variables, values[0] + values[1])

    def _num_replicas(self):
        # The program is global, also when data are sharded over devices.
        return 1

    def _in_order(self, second, gradients):
        # XLA would mix the halves, and keep the activations of both. On a CPU it is left to run
        # small kernels of both at once.
        if not has_accelerator():
            return second, gradients
        return jax.lax.optimization_barrier((second, gradients))

    def _batch_is_sharded(self):
        # Interleaved halves stay where they are; concatenated ones would move between devices.
        return num_replicas() > 1
