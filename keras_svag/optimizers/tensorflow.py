"""TensorFlow functions of the optimizers: dense gradients, and branches across replicas."""

import tensorflow as tf
from keras import ops


def densify(gradient):
    """Returns a dense tensor, in which repeated rows of `tf.IndexedSlices` are summed."""
    return tf.convert_to_tensor(gradient)


def cond(condition, true_fn, false_fn, variables):
    """Calls one of two functions that assign `variables`; also inside a replica."""
    del variables
    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        ops.cond(condition, true_fn, false_fn)
        return

    def cross_replica_cond(strategy, conditions, true_fn, false_fn):
        def call_in_replicas(function):
            strategy.extended.call_for_each_replica(lambda f: f(), args=(function,))
            return 0

        # All replicas agree, since their counters do.
        condition = strategy.experimental_local_results(conditions)[0]
        tf.cond(condition, lambda: call_in_replicas(true_fn), lambda: call_in_replicas(false_fn))

    # Assigning synchronizes replicas, which is not allowed inside a branch of a single replica.
    context = tf.distribute.get_replica_context()
    context.merge_call(cross_replica_cond, args=(condition, true_fn, false_fn))


def num_gradient_shards():
    """Returns the number of replicas whose gradients are summed."""
    return tf.distribute.get_strategy().num_replicas_in_sync
