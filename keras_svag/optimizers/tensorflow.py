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
    replica = tf.distribute.get_replica_context()
    if replica is None or tf.__internal__.distribute.strategy_supports_no_merge_call():
        ops.cond(condition, if_true, if_false)
        return

    def of_all_replicas(strategy, conditions, if_true, if_false):
        def on_each(function):
            strategy.extended.call_for_each_replica(lambda f: f(), args=(function,))
            return 0

        # All replicas agree, since their counters do.
        condition = strategy.experimental_local_results(conditions)[0]
        tf.cond(condition, lambda: on_each(if_true), lambda: on_each(if_false))

    # Replicas meet where they assign, which they may not do inside of a branch of their own.
    replica.merge_call(of_all_replicas, args=(condition, if_true, if_false))


def num_gradient_shards():
    """Number of replicas whose gradients are summed."""
    return tf.distribute.get_strategy().num_replicas_in_sync
