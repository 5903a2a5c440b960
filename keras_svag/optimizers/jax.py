"""JAX functions of the optimizers: branches that assign variables."""

import jax
import keras


def densify(gradient):
    """Returns the gradient unchanged: on JAX all gradients are dense."""
    return gradient


def cond(condition, true_fn, false_fn, variables):
    """Calls one of two functions that assign `variables`."""
    if not isinstance(condition, jax.core.Tracer):
        (true_fn if condition else false_fn)()
        return

    def stateless(branch):
        def call(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
                branch()
                return [scope.get_current_value(variable) for variable in variables]

        return call

    values = [variable.value for variable in variables]
    values = jax.lax.cond(condition, stateless(true_fn), stateless(false_fn), values)
    for variable, value in zip(variables, values):
        variable.assign(value)


def num_gradient_shards():
    """Returns 1: gradients are already global under JAX."""
    return 1
