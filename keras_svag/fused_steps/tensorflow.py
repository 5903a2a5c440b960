"""The steps of `steps_per_execution=K` as one XLA program on TensorFlow."""

import functools

import tensorflow as tf

from keras_svag.xla_policy import should_fuse_steps


def fuse_steps(model, train_function):
    """The fastest way to take `steps_per_execution` steps of a model.

    Keras starts one compiled program a step from a loop of TensorFlow. Where all K steps can be
    one program instead (see `should_fuse_steps`), its start is paid once in K steps.

    Args:
        model: a compiled model with the split-batch train step.
        train_function: the function of an iterator that Keras made for it.

    Returns:
        A function of an iterator that takes up to K steps and returns the logs.
    """
    inside = (
        model.steps_per_execution > 1
        and model.jit_compile
        and not model.run_eagerly
        and model._logs_are_metric_results
        and should_fuse_steps(model)
    )
    return FusedSteps(model, train_function) if inside else train_function


class FusedSteps:
    """Takes K batches from a `tf.data` iterator and K steps in one XLA program.

    Batches are stacked, so a program takes those that follow each other in one shape: a last batch
    of another size is a program of its own, compiled once. Where there are less than K (the end of
    an epoch), the stack is padded and the number of steps is data.

    Args:
        model: a compiled model with the split-batch train step.
        otherwise: function for other iterators (lists, distributed ones) and for batches that
            cannot be stacked, such as ragged tensors.
    """

    def __init__(self, model, otherwise):
        self._model = model
        self._otherwise = otherwise
        self._most = model.steps_per_execution
        # As Keras does: AutoGraph would read through all that the model does.
        compiled = functools.partial(tf.function, autograph=False, reduce_retracing=True)
        self._program = compiled(self._take_steps, jit_compile=True)
        self._on_iterator = compiled(self._take_batches)

    def __call__(self, iterator):
        """Takes up to K steps.

        Args:
            iterator: what `fit` reads batches from.

        Returns:
            A dict of logs, those after the last step.

        Raises:
            StopIteration: if there was no batch left.
        """
        if not isinstance(iterator, tf.data.Iterator) or not _stackable(iterator.element_spec):
            return self._otherwise(iterator)
        steps, logs = self._on_iterator(iterator)
        if not steps:
            raise StopIteration
        return logs

    def _take_batches(self, iterator):
        structure = iterator.element_spec

        def steps_of_one_shape(done, exists, batch):
            del exists
            count, stacks, exists, batch = self._stack(iterator, batch, self._most - done)
            self._program(tf.nest.pack_sequence_as(structure, stacks), count)
            return done + count, exists, batch

        done, *_ = tf.while_loop(
            lambda done, exists, batch: exists,
            steps_of_one_shape,
            (tf.constant(0), *_next_batch(iterator, tf.constant(True))),
        )
        # Metrics are sums over steps: their results are the logs of the last one.
        return done, {**self._model.get_metrics_result(), **self._model._noise_logs()}

    def _stack(self, iterator, batch, most):
        """Stacks of `batch` and those after it that have its shapes, `most` in all at most.

        Returns:
            A tuple `(count, stacks, exists, batch)`; the last two are the batch that comes next.
        """
        shapes = [tf.shape(leaf) for leaf in batch]

        def cond_fn(count, stacks, exists, batch):
            alike = [tf.reduce_all(tf.shape(a) == b) for a, b in zip(batch, shapes)]
            return exists & tf.reduce_all(alike)

        def add(count, stacks, exists, batch):
            stacks = [stack.write(count, leaf) for stack, leaf in zip(stacks, batch)]
            return count + 1, stacks, *_next_batch(iterator, count + 1 < most)

        stacks = [
            tf.TensorArray(leaf.dtype, self._most, element_shape=leaf.shape) for leaf in batch
        ]
        count, stacks, exists, batch = tf.while_loop(
            cond_fn, add, (tf.constant(0), stacks, tf.constant(True), batch)
        )
        # Rows that were not written are zero; no step reads them.
        return count, [stack.stack() for stack in stacks], exists, batch

    def _take_steps(self, stacks, count):
        def step(done):
            self._model.train_step(tf.nest.map_structure(lambda a: a[done], stacks))
            return done + 1

        return tf.while_loop(lambda done: done < count, step, [tf.constant(0)])


def _stackable(spec):
    leaves = tf.nest.flatten(spec)
    return all(isinstance(leaf, tf.TensorSpec) and leaf.shape.rank is not None for leaf in leaves)


def _next_batch(iterator, wanted):
    """Whether there is (and is wanted) another batch, and its leaves, zeros if not."""
    specs = tf.nest.flatten(iterator.element_spec)

    def take():
        optional = iterator.get_next_as_optional()
        exists = optional.has_value()
        return exists, tf.cond(exists, lambda: tf.nest.flatten(optional.get_value()), nothing)

    def nothing():
        return [tf.zeros([size or 0 for size in spec.shape], spec.dtype) for spec in specs]

    return tf.cond(wanted, take, lambda: (tf.constant(False), nothing()))
