"""Random crops and flips: drawn with NumPy from seed and step, applied on any backend."""

import dataclasses
import math

import keras
import numpy as np

from keras_svag._checks import positive_int

# Philox counters, one per purpose, so that streams of the same seed never overlap. `Sampler` starts
# at zero, `theory.standard_normals` at [0, 0, 0, 1].
CROPS, SUBSETS, UNIFORMS = ((0, 0, 0, purpose) for purpose in (2, 3, 4))


def philox(counter, seed, step):
    """Random stream of a purpose, seed and step."""
    # As uint64: NumPy would turn a list with a seed of 2^63 or more into floats.
    return np.random.Philox(
        key=np.array([seed, step], np.uint64), counter=np.array(counter, np.uint64)
    )


def random_words(counter, seed, start, stop, *shape):
    """Draws uint64 words of shape `(stop - start, *shape)`, each step from its own stream."""
    seed = positive_int("seed", seed, minimum=0)
    start = positive_int("start", start, minimum=0)
    stop = positive_int("stop", stop, minimum=start)
    positive_int("length", shape[0])
    words = np.empty((stop - start, *shape), np.uint64)
    for row, step in enumerate(range(start, stop)):
        words[row] = philox(counter, seed, step).random_raw(math.prod(shape)).reshape(shape)
    return words


@dataclasses.dataclass(frozen=True)
class PadCropFlip:
    """Random crop of the zero-padded image, then a horizontal flip with probability 1/2.

    The CIFAR augmentation of Li, Malladi, Arora's code (arXiv 2102.12470). It comes before
    normalization, so the border is black, not the mean color.

    Attributes:
        padding: int, pixels of zeros on each side, at most 127. The crop has the size of the image;
            all `(2 padding + 1)^2` positions are equally likely. Defaults to `4`.
        flip: bool, flip half of the images left to right. Defaults to `True`.

    Raises:
        ValueError: if `padding` is out of range.

    Example:

    >>> augmentation = PadCropFlip()
    >>> params = augmentation.draw(seed=0, start=5, stop=8, length=16)
    >>> params.shape
    (3, 16, 3)
    >>> augmentation.apply(np.ones((16, 32, 32, 3), np.uint8), params[0]).shape
    (16, 32, 32, 3)
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self):
        if positive_int("padding", self.padding, minimum=0) > 127:
            raise ValueError(f"`padding` must be at most 127. Received: padding={self.padding}")

    def draw(self, seed: int, start: int, stop: int, length: int) -> np.ndarray:
        """Draws the augmentations of steps `start` to `stop - 1`.

        They belong to positions in the batch, not to examples: an example that is drawn twice gets
        two independent augmentations, as the theory (independent gradients) assumes. Those of the
        first positions do not depend on `length`.

        Args:
            seed: int >= 0; may be that of a `Sampler`, whose stream is independent.
            start: int, first step, counted from 0.
            stop: int, end of the range of steps.
            length: int, images per step.

        Returns:
            A uint8 array of shape `(stop - start, length, 3)`: row and column offset of the crop,
            from 0 to `2 padding` (`padding` is the original position), and 1 for a flip.
        """
        words = random_words(CROPS, seed, start, stop, length)
        # One 64-bit word per image: its digits in mixed base are uniform up to 1 in 2^48.
        size = np.uint64(2 * self.padding + 1)
        rows, words = words % size, words // size
        columns, words = words % size, words // size
        flips = words % np.uint64(2 if self.flip else 1)
        return np.stack([rows, columns, flips], axis=-1).astype(np.uint8)

    def apply(self, x, params):
        """Augments a batch; can be compiled.

        Args:
            x: images of shape `(b, height, width, channels)`, of any dtype.
            params: int array of shape `(b, 3)`, one step of `draw`.

        Returns:
            Images of the same shape and dtype: a NumPy array if both arguments are, else a tensor.
        """
        if len(x.shape) != 4 or len(params.shape) != 2 or params.shape[-1] != 3:
            raise ValueError(
                "`x` must have the shape (b, height, width, channels), and `params` (b, 3). "
                f"Received: x.shape={tuple(x.shape)}, params.shape={tuple(params.shape)}"
            )
        numpy = isinstance(x, np.ndarray) and isinstance(params, np.ndarray)
        ops = np if numpy else keras.ops
        # Only the batch size may be unknown during tracing.
        count = x.shape[0] if numpy else ops.shape(x)[0]
        height, width, channels = x.shape[1:]
        params = params.astype(np.int32) if numpy else ops.cast(params, "int32")
        row = params[:, 0, None] + np.arange(height, dtype=np.int32)
        column = np.arange(width, dtype=np.int32)
        column = params[:, 1, None] + ops.where(params[:, 2, None] > 0, column[::-1], column)
        # One gather of pixels over the whole batch: 2 ms for 256 images of 32x32 on a CPU, where
        # a chain of selects takes 30.
        border = (self.padding, self.padding)
        padded = ops.pad(x, ((0, 0), border, border, (0, 0)))
        image = ops.arange(count, dtype="int32")[:, None] * (height + 2 * self.padding)
        index = (image + row)[:, :, None] * (width + 2 * self.padding) + column[:, None, :]
        return ops.take(ops.reshape(padded, (-1, channels)), index, axis=0)
