"""From pixels 0 to 255 to what a network reads: float32, normalised per channel."""

import dataclasses

import keras
import numpy as np

from keras_svag._checks import finite_float


@dataclasses.dataclass(frozen=True)
class Normalization:
    """`(x / 255 - mean) / std` in float32, for images kept as integers.

    A uint8 image is a quarter of a float32 one, in memory and on the way to the device; this is
    applied to a batch, inside the compiled program or in the input pipeline.

    Attributes:
        mean: numbers, one per channel, for pixels in [0, 1].
        std: numbers > 0, one per channel.

    Raises:
        ValueError: if a number is out of range, or there are not as many of one as of the other.

    Example:

    >>> normalize = Normalization(mean=(0.5,), std=(0.25,))
    >>> normalize(np.array([[0], [255]], np.uint8)).tolist()
    [[-2.0], [2.0]]
    """

    mean: tuple
    std: tuple

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
        """Normalises images.

        Args:
            pixels: integer array or tensor of shape `(..., channels)`, values 0 to 255.

        Returns:
            float32, of the same shape: a NumPy array for a NumPy array, else a tensor.

        Raises:
            ValueError: if `pixels` are not integers (normalised already?), or have another number
                of channels.
        """
        dtype = keras.backend.standardize_dtype(pixels.dtype)
        if "int" not in dtype or pixels.shape[-1] not in (None, len(self.mean)):
            raise ValueError(
                f"`pixels` must be integers 0 to 255 with {len(self.mean)} channels last. "
                f"Received: dtype={dtype}, shape={tuple(pixels.shape)}"
            )
        numpy = isinstance(pixels, np.ndarray)
        scaled = (pixels.astype(np.float32) if numpy else keras.ops.cast(pixels, "float32")) / 255
        return (scaled - np.float32(self.mean)) / np.float32(self.std)
