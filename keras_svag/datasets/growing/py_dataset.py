"""`GrowingBatches`: a `PyDataset` around another one, whose batch size grows."""

import keras
import numpy as np
from keras import tree

from keras_svag.datasets.batches import SampledBatches
from keras_svag.datasets.growing import segments as segments_of


class GrowingBatches(keras.utils.PyDataset):
    """The batches of a `PyDataset`, at the sizes that `begin_epoch` sets.

    Keras reads the number of batches once in `fit`. So `num_batches` is an array without
    dimensions, whose value changes in place: loop, progress bar and callbacks see the new one.
    """

    def __init__(self, data, sizes):
        _check(data, sizes[0])
        # No workers: on TensorFlow Keras begins to read an epoch before the last one has ended, and
        # they would keep what they have read, at the old size, for the epoch to come.
        super().__init__()
        self._data = data
        is_sampled = isinstance(data, SampledBatches)
        self._resized = {size: data.resized(size) for size in sizes} if is_sampled else {}
        self.can_grow_within_epoch = is_sampled
        self._num_batches = np.array(0)
        self._next_epoch = data.epoch if is_sampled else 0
        self._set_segments([(0, sizes[0])])

    def begin_epoch(self, epoch, segments):
        """Sets epoch and batch sizes of the batches to come."""
        # A second `fit` counts from 0 again, but is to see other batches.
        epoch = max(epoch, self._next_epoch)
        self._next_epoch = epoch + 1
        for data in self._resized.values():
            data.epoch = epoch
        self._set_segments(segments)

    def _set_segments(self, segments):
        if not self._resized:
            self._resize(segments[0][1])
        self._num_batches[...] = self.length(segments)
        self._segments = segments

    def _resize(self, size):
        old, data = self._data.batch_size, self._data
        if old == size:
            return
        before = _num_examples(data[0])
        data.batch_size = size
        if _num_examples(data[0]) == before:
            data.batch_size = old
            raise ValueError(
                "`data` must read its attribute `batch_size` in `__len__` and `__getitem__`. "
                f"Received: {type(data).__name__}, whose batches keep {before} examples with "
                f"batch_size={size}. Compute sizes in these methods, not in `__init__`."
            )

    def length(self, segments):
        """Returns the number of batches of an epoch."""
        start, size = segments[-1]
        total = len(self._resized[size]) if self._resized else self._data.num_batches
        return start + max(1, total - segments_of.first_index(segments))

    def length_at(self, size):
        """Returns the number of batches of an epoch at one batch size."""
        if self._resized:
            return len(self._resized[size])
        old = self._data.batch_size
        self._data.batch_size = size
        length = self._data.num_batches
        self._data.batch_size = old
        return length

    @property
    def num_batches(self):
        """Number of batches in this epoch, an array of one integer that changes in place."""
        return self._num_batches

    def __len__(self):
        return int(self._num_batches)

    def __getitem__(self, index):
        segments = self._segments
        if not self._resized:
            return self._data[index]
        number = segments_of.find_segment(segments, index)
        start, size = segments[number]
        first = segments_of.first_index(segments[: number + 1])
        return self._resized[size][first + index - start]

    def on_epoch_begin(self):
        """Forwards the call to data of the user's own."""
        if not self._resized:
            self._data.on_epoch_begin()

    def on_epoch_end(self):
        """Forwards the call to data of the user's own."""
        if not self._resized:
            self._data.on_epoch_end()


def _num_examples(batch):
    return len(tree.flatten(batch)[0])


def _check(data, start):
    if not isinstance(data, keras.utils.PyDataset):
        raise ValueError(
            "`data` must be SampledBatches, a keras.utils.PyDataset with the attribute "
            f"`batch_size`, or a tf.data.Dataset. Received: data of type {type(data).__name__}. "
            "For arrays use keras_svag.datasets.SampledBatches(x, y, batch_size)."
        )
    size = getattr(data, "batch_size", None)
    if size != start:
        raise ValueError(
            f"`data.batch_size` must be `start`. Received: batch_size={size}, start={start}."
        )
    if data.num_batches is None:
        raise ValueError(
            "`data` must have a length, that of an epoch. Received: num_batches=None. "
            "Define `__len__`."
        )
