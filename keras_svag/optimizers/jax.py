"""What the optimizers need from JAX itself: branches that assign variables."""

import jax
import keras


def densify(gradient):
    """Returns the gradient as it is: JAX has dense ones only."""
    return gradient


def either(condition, if_true, if_false, variables):
    """Calls one of two functions that assign variables.

    Args:
        condition: scalar boolean array.
        if_true: function without arguments, called if `condition` holds.
        if_false: function without arguments, called otherwise.
        variables: list of all variables that they assign.
    """
    if not isinstance(condition, jax.core.Tracer):
        (if_true if condition else if_false)()
        return

    def outcome(branch):
        def new_values(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
                branch()
                return [scope.get_current_value(variable) for variable in variables]

        return new_values

    values = [variable.value for variable in variables]
    values = jax.lax.cond(condition, outcome(if_true), outcome(if_false), values)
    for variable, value in zip(variables, values):
        variable.assign(value)


def num_gradient_shards():
    """Number of replicas whose gradients are summed: gradients are global ones here."""
    return 1
