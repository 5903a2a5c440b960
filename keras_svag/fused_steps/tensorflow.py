"""The steps of `steps_per_execution=K` as one XLA program on TensorFlow."""

import functools

import tensorflow as tf


class FusedSteps:
    """A train function that takes K batches from a `tf.data` iterator in one XLA program.

    Keras starts one compiled program per step from a loop of TensorFlow. Here consecutive batches
    of equal shape are stacked; a last batch of another size is a program of its own, compiled once.
    A shorter stack (at the end of an epoch) is padded, and the number of steps is an argument.
    Other iterators (lists, distributed ones), and batches that cannot be stacked, such as ragged
    tensors, go to the `train_function` of Keras.
    """

    def __init__(self, model, train_function):
        self._model = model
        self._train_function = train_function
        self._max_steps = model.steps_per_execution
        # Without AutoGraph, as in Keras: it would read through all that the model does.
        compiled = functools.partial(tf.function, autograph=False, reduce_retracing=True)
        self._program = compiled(self._take_steps, jit_compile=True)
        self._run_iterator = compiled(self._take_batches)

    def __call__(self, iterator):
        """Takes up to K steps; returns the logs after the last one."""
        if not isinstance(iterator, tf.data.Iterator) or not _is_stackable(iterator.element_spec):
            return self._train_function(iterator)
        steps, logs = self._run_iterator(iterator)
        if not steps:
            raise StopIteration
        return logs

    def _take_batches(self, iterator):
        structure = iterator.element_spec

        def take_same_shape(steps, exists, batch):
            del exists
            max_steps = self._max_steps - steps
            count, stacks, exists, batch = self._stack(iterator, batch, max_steps)
            self._program(tf.nest.pack_sequence_as(structure, stacks), count)
            return steps + count, exists, batch

        steps, *_ = tf.while_loop(
            lambda steps, exists, batch: exists,
            take_same_shape,
            (tf.constant(0), *_next_batch(iterator, tf.constant(True))),
        )
        # Metrics are sums over steps: their results are the logs of the last one.
        return steps, self._model._train_logs()

    def _stack(self, iterator, batch, max_steps):
        """Stacks `batch` and those after it that have its shapes; also returns the next batch."""
        shapes = [tf.shape(leaf) for leaf in batch]

        def cond_fn(count, stacks, exists, batch):
            same_shape = [tf.reduce_all(tf.shape(a) == b) for a, b in zip(batch, shapes)]
            return exists & tf.reduce_all(same_shape)

        def body(count, stacks, exists, batch):
            stacks = [stack.write(count, leaf) for stack, leaf in zip(stacks, batch)]
            return count + 1, stacks, *_next_batch(iterator, count + 1 < max_steps)

        stacks = [
            tf.TensorArray(leaf.dtype, self._max_steps, element_shape=leaf.shape) for leaf in batch
        ]
        count, stacks, exists, batch = tf.while_loop(
            cond_fn, body, (tf.constant(0), stacks, tf.constant(True), batch)
        )
        # Rows that were not written are zero, and no step reads them.
        return count, [stack.stack() for stack in stacks], exists, batch

    def _take_steps(self, stacks, count):
        def body(step):
            self._model.train_step(tf.nest.map_structure(lambda a: a[step], stacks))
            return step + 1

        return tf.while_loop(lambda step: step < count, body, [tf.constant(0)])


def _is_stackable(spec):
    leaves = tf.nest.flatten(spec)
    return all(isinstance(leaf, tf.TensorSpec) and leaf.shape.rank is not None for leaf in leaves)


def _next_batch(iterator, condition):
    """Reads a batch if `condition` holds; returns if there was one, and its leaves or zeros."""
    specs = tf.nest.flatten(iterator.element_spec)

    def zeros():
        return [tf.zeros([size or 0 for size in spec.shape], spec.dtype) for spec in specs]

    def read():
        optional = iterator.get_next_as_optional()
        exists = optional.has_value()
        return exists, tf.cond(exists, lambda: tf.nest.flatten(optional.get_value()), zeros)

    return tf.cond(condition, read, lambda: (tf.constant(False), zeros()))
