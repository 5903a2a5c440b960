"""Normalization of integer images."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from keras_svag._checks import finite_float


@dataclasses.dataclass(frozen=True)
class Normalization:
    """`(x / 255 - mean) / std` in float32, for integer images.

    Applied per batch, in the compiled program or the input pipeline, so that images can be kept as
    uint8, a quarter of the size.

    Attributes:
        mean: numbers, one per channel, for pixels in [0, 1].
        std: numbers > 0, one per channel.

    Raises:
        ValueError: if a number is out of range, or the lengths differ.

    Example:

    >>> normalize = Normalization(mean=(0.5,), std=(0.25,))
    >>> normalize(np.array([[0], [255]], np.uint8)).tolist()
    [[-2.0], [2.0]]
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self):
        mean = tuple(finite_float("mean", m, "finite numbers") for m in self.mean)
        std = tuple(finite_float("std", s, "numbers > 0", 0.0, exclusive=True) for s in self.std)
        if not mean or len(mean) != len(std):
            raise ValueError(
                "`mean` and `std` must have one number for each channel. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def __call__(self, pixels):
        """Normalizes integer images of shape `(..., channels)`; NumPy arrays stay NumPy arrays."""
        dtype = keras.backend.standardize_dtype(pixels.dtype)
        if "int" not in dtype or pixels.shape[-1] not in (None, len(self.mean)):
            raise ValueError(
                f"`pixels` must be integers 0 to 255 with {len(self.mean)} channels last. "
                f"Received: dtype={dtype}, shape={tuple(pixels.shape)}"
            )
        numpy = isinstance(pixels, np.ndarray)
        scaled = (pixels.astype(np.float32) if numpy else keras.ops.cast(pixels, "float32")) / 255
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (scaled - mean) / std
