"""Augmentation by a user's function of uniform random numbers."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import tree

from keras_svag._checks import error_text, positive_int
from keras_svag.datasets.augmentation import UNIFORMS, random_words

BITS = 24  # the precision of float32: with more, the largest would be rounded to 1


@dataclasses.dataclass(frozen=True)
class UniformAugmentation:
    """Augmentation `function(x, u)` of a batch `x` by uniform random numbers `u`.

    Attributes:
        function: pure function of a batch of inputs (an array or structure of arrays) and a float32
            array of shape `(length, num_uniforms)` with numbers in [0, 1), a row per example. It
            returns inputs of the same structure and shapes. It is compiled, so use `keras.ops`.
        num_uniforms: int, uniform numbers per example. Defaults to `4`.

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

    function: Callable
    num_uniforms: int = 4

    def __post_init__(self):
        if not callable(self.function):
            raise ValueError(
                "`function` must be a function of a batch and uniform numbers. "
                f"Received: function={self.function!r}"
            )
        positive_int("num_uniforms", self.num_uniforms)

    def draw(self, seed: int, start: int, stop: int, length: int) -> np.ndarray:
        """Draws the uniform numbers of steps `start` to `stop - 1`; see `PadCropFlip.draw`.

        Returns:
            A float32 array of shape `(stop - start, length, num_uniforms)` of multiples of 2^-24 in
            [0, 1).
        """
        words = random_words(UNIFORMS, seed, start, stop, length, self.num_uniforms)
        return (words >> np.uint64(64 - BITS)).astype(np.float32) * np.float32(2.0**-BITS)

    def apply(self, x, params):
        """Augments a batch by one step of `draw`; NumPy arrays stay NumPy arrays."""
        result = self.function(x, params)
        if all(isinstance(leaf, np.ndarray) for leaf in tree.flatten((x, params))):
            return tree.map_structure(keras.ops.convert_to_numpy, result)
        return result


def as_augmentation(augment, num_uniforms=4):
    """Returns the `augment` argument as an object with `draw` and `apply`, or `None`."""
    is_class = isinstance(augment, type)
    if augment is None or (not is_class and hasattr(augment, "draw") and hasattr(augment, "apply")):
        return augment
    if is_class or not callable(augment):
        raise ValueError(
            "`augment` must be a function of a batch and uniform numbers, an object with `draw` "
            f"and `apply` such as PadCropFlip(), or None. Received: augment={augment!r}"
        )
    return UniformAugmentation(augment, num_uniforms)


def check_augmentation(augmentation, x):
    """Raises if an augmentation cannot be compiled, is not pure, or changes shapes or dtypes."""
    x = tree.map_structure(_to_tensor, x)
    params = augmentation.draw(seed=0, start=0, stop=1, length=len(tree.flatten(x)[0]))[0]
    params = keras.ops.convert_to_tensor(params)
    try:
        _Traced(augmentation.apply).trace(x, params)
        first, second = augmentation.apply(x, params), augmentation.apply(x, params)
    except Exception as error:
        raise ValueError(
            "`augment` must be a function of a batch and uniform numbers that can be compiled: use "
            f"keras.ops, not NumPy. Received: {error_text(error)}"
        ) from error
    try:
        tree.assert_same_structure(x, first)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`augment` must keep the structure of the inputs. "
            f"Received: {_signature(first)} for {_signature(x)}"
        ) from error
    before, after, again = map(tree.flatten, (x, first, second))
    for index, leaves in enumerate(zip(before, after, again, strict=True)):
        _check_leaf(f"array {index} of the inputs" if len(before) > 1 else "the inputs", *leaves)


def _to_tensor(array):
    """Converts an array as `fit` does: floats to the default float type."""
    is_float = np.asarray(array).dtype.kind == "f"
    return keras.ops.convert_to_tensor(array, keras.backend.floatx() if is_float else None)


class _Traced(keras.Operation):
    """An operation that traces a function with symbolic tensors, as compiled programs do."""

    def __init__(self, function):
        super().__init__()
        self._function = function
        self.error = None  # Keras wraps it in an error about operations

    def call(self, *arguments):
        try:
            return self._function(*arguments)
        except Exception as error:
            self.error = error
            raise

    def trace(self, *tensors):
        """Traces the function; raises what it raises."""
        symbols = tree.map_structure(
            lambda t: keras.KerasTensor(t.shape, keras.backend.standardize_dtype(t.dtype)), tensors
        )
        try:
            self.compute_output_spec(*symbols)
        except Exception as error:
            raise self.error or error from None


def _check_leaf(name, before, after, again):
    if _signature(before) != _signature(after):
        raise ValueError(
            f"`augment` must keep shapes and kinds of numbers of {name}. "
            f"Received: {_signature(after)} for {_signature(before)}"
        )
    after, again = keras.ops.convert_to_numpy(after), keras.ops.convert_to_numpy(again)
    if not np.isfinite(after.astype(np.float64)).all():
        raise ValueError(
            f"`augment` must return finite numbers. Received: NaN or infinity in {name}"
        )
    if not np.array_equal(after, again):
        raise ValueError(
            "`augment` must be a pure function, random only by its uniform numbers. Received: "
            f"different results of two calls with the same arguments, in {name}"
        )


def _signature(x):
    """Shapes and kinds of numbers, in the structure of `x`."""
    return str(tree.map_structure(_kind_and_shape, x))


def _kind_and_shape(leaf):
    if not hasattr(leaf, "dtype"):
        return type(leaf).__name__
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    is_integer = keras.backend.is_int_dtype(dtype)
    kind = "integers" if is_integer else "floats" if keras.backend.is_float_dtype(dtype) else dtype
    return f"{kind} of shape {tuple(leaf.shape)}"
