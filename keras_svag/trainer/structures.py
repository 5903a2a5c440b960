"""Operations on structures of arrays, as `fit` takes them."""

from keras import ops, tree

from keras_svag import _keras


def first_leaf(x):
    """Returns the first array in a structure, skipping `None` leaves."""
    return next(leaf for leaf in tree.flatten(x) if leaf is not None)


def map_arrays(function, *structures):
    """Maps a function over the arrays of equal structures; `None` leaves stay `None`."""
    return tree.map_structure(function, *structures, none_is_leaf=False)


def split_batch(data, length, drop_odd):
    """Splits a batch into even and odd positions; without `drop_odd` the first may be longer."""
    # If the length is static, so are all shapes, as TPUs require. A batch of one is repeated.
    maximum, minimum = (max, min) if isinstance(length, int) else (ops.maximum, ops.minimum)
    half, start = maximum(length // 2, 1), minimum(1, length - 1)

    stop = 2 * half - 1 if drop_odd else length
    return (
        map_arrays(lambda array: _rows(array, 0, stop, 2), data),
        map_arrays(lambda array: _rows(array, start, length, 2), data),
    )


def _rows(array, start, stop, step):
    """Returns `array[start:stop:step]`, also of a `tf.SparseTensor`."""
    if not hasattr(array, "dense_shape"):
        return array[start:stop:step]
    # TensorFlow does not slice these with a step.
    start, stop = (ops.cast(number, array.indices.dtype) for number in (start, stop))
    rows = array.indices[:, 0]
    (places,) = ops.nonzero((rows >= start) & (rows < stop) & ((rows - start) % step == 0))
    rows, columns = ops.take(rows, places), ops.take(array.indices[:, 1:], places, axis=0)
    indices = ops.concatenate([(rows[:, None] - start) // step, columns], axis=1)
    count = (stop - start + step - 1) // step
    shape = ops.concatenate([count[None], array.dense_shape[1:]], axis=0)
    part = type(array)(indices, ops.take(array.values, places), shape)
    part.set_shape((None, *array.shape[1:]))
    return part


def join_halves(first, second, length, interleave=False):
    """Joins two halves, cut to `length` examples; scalars are averaged, masks kept."""
    # With `interleave`, the examples of halves of one size get back the order of their batch.

    def concatenate(a, b):
        if interleave and a.shape == b.shape:
            joined = ops.reshape(ops.stack([a, b], axis=1), (-1, *a.shape[1:]))
        else:
            joined = ops.concatenate([a, b], axis=0)
        return _rows(joined, 0, length, 1)

    def join(a, b):
        if len(a.shape) == 0:
            # A model may return these beside its predictions.
            return (a + b) / ops.cast(2, a.dtype)
        return _keras.join_masks(a, b, concatenate(a, b), concatenate)

    return map_arrays(join, first, second)
