"""`GrowingDataset`: a `tf.data.Dataset` whose batch size grows."""

import math

import numpy as np
import tensorflow as tf

from keras_svag import _keras
from keras_svag.datasets.growing.segments import examples_before


class GrowingDataset(_keras.TFDatasetAdapter):
    """A batched `tf.data.Dataset`, rebatched to the sizes that `begin_epoch` sets.

    The sizes are in a variable, which is read whenever the pipeline starts, at each epoch.
    """

    can_grow_within_epoch = True

    def __init__(self, dataset, sizes, class_weight=None):
        start = sizes[0]
        drop_remainder = _check_batch(dataset, start)
        self._start = start
        self._count = int(dataset.cardinality())
        if self._count < 0:
            raise ValueError(
                "`data` must have a known length, that of an epoch. Received: a tf.data.Dataset of "
                "unknown or infinite cardinality. Use "
                "dataset.apply(tf.data.experimental.assert_cardinality(num_batches))."
            )
        if drop_remainder and sizes[-1] > self._count * start:
            raise ValueError(
                f"Batch sizes must be at most {self._count * start}, the number of examples, if "
                f"short batches are dropped. Received: {sizes[-1]}. Use fewer growths, a smaller "
                "`factor` or `max_batch_size`, or dataset.batch(..., drop_remainder=False)."
            )
        wrong = [size for size in sizes if size % start and not drop_remainder]
        if wrong:
            raise ValueError(
                f"Batch sizes must be multiples of {start} if the last batch may be short. "
                f"Received: {wrong}. Use dataset.batch(..., drop_remainder=True), or "
                "an integer `factor`."
            )
        self._rounding = math.floor if drop_remainder else math.ceil
        self._sizes = tf.Variable([start], shape=[None], dtype=tf.int64, trainable=False)
        # The value of a variable would be fixed outside of the function.
        rebatched = tf.data.Dataset.range(1).flat_map(
            lambda _: dataset.rebatch(self._sizes.read_value(), drop_remainder)
        )
        super().__init__(rebatched, class_weight)
        self._num_batches = np.array(self.length([(0, start)]))

    def begin_epoch(self, epoch, segments):
        """Sets the batch sizes of the batches to come."""
        del epoch
        length = self.length(segments)
        sizes = np.empty(length, np.int64)
        for start, size in segments:
            sizes[start:] = size
        self._sizes.assign(sizes)
        self._num_batches[...] = length

    def length(self, segments):
        """Returns the number of batches of an epoch."""
        start, size = segments[-1]
        left = self._count * self._start - examples_before(segments)
        return start + max(1, self._rounding(left / size))

    def length_at(self, size):
        """Returns the number of batches of an epoch at one batch size."""
        return self.length([(0, size)])

    @property
    def num_batches(self):
        """Number of batches in this epoch, an array of one integer that changes in place."""
        return self._num_batches


def _check_batch(dataset, start):
    """Returns True if all batches are full; raises unless the batches have `start` examples."""
    leaves = tf.nest.flatten(dataset.element_spec)
    is_batched = all(leaf.shape.rank != 0 for leaf in leaves)
    sizes = {leaf.shape[0] for leaf in leaves} if is_batched else {1}
    is_full = sizes != {None}
    if is_batched and not is_full:
        sizes = {int(leaf.shape[0]) for leaf in tf.nest.flatten(next(iter(dataset)))}
    if sizes != {start}:
        raise ValueError(
            "`data` must be a tf.data.Dataset in batches of `start` examples. Received: "
            f"start={start}, element_spec={dataset.element_spec}. Use dataset.batch(start)."
        )
    return is_full
