"""What the optimizers need from TensorFlow itself: gradients of embeddings, branches."""

import tensorflow as tf
from keras import ops


def densify(gradient):
    """Returns a dense tensor; sums repeated rows of `tf.IndexedSlices` (embedding gradients)."""
    return tf.convert_to_tensor(gradient)


def either(condition, if_true, if_false, variables):
    """Calls one of two functions that assign variables.

    Args:
        condition: scalar boolean tensor.
        if_true: function without arguments, called if `condition` holds.
        if_false: function without arguments, called otherwise.
        variables: list of all variables that they assign; not needed on this backend.
    """
    del variables
    ops.cond(condition, if_true, if_false)
