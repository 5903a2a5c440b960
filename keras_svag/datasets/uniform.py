"""Augmentation by a function of one's own, and of uniform numbers that are drawn for it."""

import collections.abc
import dataclasses

import keras
import numpy as np
from keras import tree

from keras_svag._checks import positive_int

# Philox counters of the uniform numbers; see keras_svag/datasets/augmentation.py for the others.
COUNTER = (0, 0, 0, 4)
BITS = 24  # as many as float32 holds: with more, the largest would be rounded to 1


@dataclasses.dataclass(frozen=True)
class UniformAugmentation:
    """Augmentation `function(x, u)` of a batch `x`, random by the uniform numbers `u` alone.

    Attributes:
        function: pure function of a batch of inputs (an array or any structure of arrays, examples
            along the first axis) and of a float32 array of shape `(length, num_uniforms)`, numbers
            in [0, 1), a row for each place in the batch. It returns inputs of the same structure
            and shapes, and is written with `keras.ops`, as it becomes part of compiled programs.
        num_uniforms: how many numbers each place in the batch gets. Defaults to `4`.

    Raises:
        ValueError: if `function` cannot be called, or `num_uniforms` is out of range.

    Example:

    >>> def shift(x, u):
    ...     return x + 0.1 * (u - 0.5)
    >>> augmentation = UniformAugmentation(shift, num_uniforms=1)
    >>> params = augmentation.draw(seed=0, start=5, stop=8, length=16)
    >>> params.shape
    (3, 16, 1)
    >>> augmentation.apply(np.ones((16, 1), np.float32), params[0]).shape
    (16, 1)
    """

    function: collections.abc.Callable
    num_uniforms: int = 4

    def __post_init__(self):
        if not callable(self.function):
            raise ValueError(
                "`function` must be a function of a batch and of uniform numbers. "
                f"Received: function={self.function!r}"
            )
        positive_int("num_uniforms", self.num_uniforms)

    def draw(self, seed, start, stop, length):
        """The uniform numbers of the steps `start` to `stop - 1`.

        They belong to a place in the batch and not to an example: one that is drawn twice is
        augmented twice, independently. Place i of a step is the same at any `length`.

        Args:
            seed: int >= 0, which may be that of a `Sampler`: the streams are independent.
            start: first step, counted from 0.
            stop: the step after the last.
            length: examples in the batch of a step.

        Returns:
            A float32 array of shape `(stop - start, length, num_uniforms)`, multiples of 2^-24 in
            [0, 1).

        Raises:
            ValueError: if an argument is out of range.
        """
        seed = positive_int("seed", seed, minimum=0)
        start = positive_int("start", start, minimum=0)
        stop = positive_int("stop", stop, minimum=start)
        length = positive_int("length", length)
        words = np.empty((stop - start, length, self.num_uniforms), np.uint64)
        for row, step in enumerate(range(start, stop)):
            key = np.array([seed, step], np.uint64)
            stream = np.random.Philox(key=key, counter=np.array(COUNTER, np.uint64))
            words[row] = stream.random_raw(length * self.num_uniforms).reshape(words.shape[1:])
        return (words >> np.uint64(64 - BITS)).astype(np.float32) * np.float32(2.0**-BITS)

    def apply(self, x, params):
        """Augments a batch; works inside compiled programs.

        Args:
            x: array or structure of arrays, of `b` examples.
            params: array of shape `(b, num_uniforms)`, a step of what `draw` gave.

        Returns:
            What `function` makes of them: NumPy arrays if all arguments are, else tensors.
        """
        result = self.function(x, params)
        if all(isinstance(leaf, np.ndarray) for leaf in tree.flatten((x, params))):
            return tree.map_structure(keras.ops.convert_to_numpy, result)
        return result


def as_augmentation(augment, num_uniforms=4):
    """What is meant by an argument `augment`.

    Args:
        augment: function as for `UniformAugmentation`, an object with `draw` and `apply` such as
            `PadCropFlip`, or `None`.
        num_uniforms: how many uniform numbers a function gets. Defaults to `4`.

    Returns:
        An object with `draw` and `apply`, or `None`.

    Raises:
        ValueError: if `augment` is something else.
    """
    is_class = isinstance(augment, type)
    if augment is None or (not is_class and hasattr(augment, "draw") and hasattr(augment, "apply")):
        return augment
    if is_class or not callable(augment):
        raise ValueError(
            "`augment` must be a function of a batch and of uniform numbers, an object with `draw` "
            f"and `apply` such as PadCropFlip(), or None. Received: augment={augment!r}"
        )
    return UniformAugmentation(augment, num_uniforms)


def check_augmentation(augmentation, x):
    """Refuses, before any training, an augmentation that no study could use.

    Args:
        augmentation: an object with `draw` and `apply`.
        x: array or structure of arrays, a few examples that are as the others.

    Raises:
        ValueError: if it fails on tensors of a compiled program, changes the structure, a shape, or
            integers into floats or the other way round, gives numbers that are not finite, or
            other numbers when it is called again.
    """
    x = tree.map_structure(_as_fed, x)
    params = augmentation.draw(seed=0, start=0, stop=1, length=len(tree.flatten(x)[0]))[0]
    params = keras.ops.convert_to_tensor(params)
    try:
        _Traced(augmentation.apply).trace(x, params)
        first, second = augmentation.apply(x, params), augmentation.apply(x, params)
    except Exception as error:
        raise ValueError(
            "`augment` must be a function of a batch and of uniform numbers that works inside "
            f"compiled programs: use keras.ops, not NumPy. Received: {type(error).__name__}: "
            f"{error}"
        ) from error
    try:
        tree.assert_same_structure(x, first)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`augment` must keep the structure of the inputs. "
            f"Received: {_described(first)} for {_described(x)}"
        ) from error
    before, after, again = map(tree.flatten, (x, first, second))
    for index, leaves in enumerate(zip(before, after, again, strict=True)):
        _check_leaf(f"array {index} of the inputs" if len(before) > 1 else "the inputs", *leaves)


def _as_fed(array):
    """The tensor that a network gets: floats of the default type, as `fit` makes them."""
    is_float = np.asarray(array).dtype.kind == "f"
    return keras.ops.convert_to_tensor(array, keras.backend.floatx() if is_float else None)


class _Traced(keras.Operation):
    """A function as compiled programs call it: with tensors that have no values."""

    def __init__(self, function):
        super().__init__()
        self._function = function
        self.error = None  # Keras raises another one, with a text about operations

    def call(self, *arguments):
        try:
            return self._function(*arguments)
        except Exception as error:
            self.error = error
            raise

    def trace(self, *tensors):
        """Raises what the function raises."""
        symbols = tree.map_structure(
            lambda t: keras.KerasTensor(t.shape, keras.backend.standardize_dtype(t.dtype)), tensors
        )
        try:
            self.compute_output_spec(*symbols)
        except Exception as error:
            raise self.error or error from None


def _check_leaf(what, before, after, again):
    if _described(before) != _described(after):
        raise ValueError(
            f"`augment` must keep shapes, and integers integers, of {what}. "
            f"Received: {_described(after)} for {_described(before)}"
        )
    after, again = keras.ops.convert_to_numpy(after), keras.ops.convert_to_numpy(again)
    if not np.isfinite(after.astype(np.float64)).all():
        raise ValueError(f"`augment` must give finite numbers. Received: NaN or infinity in {what}")
    if not np.array_equal(after, again):
        raise ValueError(
            "`augment` must be a pure function: what is random in it must come from the uniform "
            "numbers that it is given. Received: other numbers when called again with the same "
            f"arguments, in {what}"
        )


def _described(x):
    """Shapes and kinds of numbers, in the structure of `x`."""
    return str(tree.map_structure(_kind_and_shape, x))


def _kind_and_shape(leaf):
    if not hasattr(leaf, "dtype"):
        return type(leaf).__name__
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    is_integer = keras.backend.is_int_dtype(dtype)
    kind = "integers" if is_integer else "floats" if keras.backend.is_float_dtype(dtype) else dtype
    return f"{kind} of shape {tuple(leaf.shape)}"
