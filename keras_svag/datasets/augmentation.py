"""Random crops and flips: drawn by NumPy as a pure function of seed and step, applied anywhere."""

import dataclasses

import keras
import numpy as np

from keras_svag._checks import positive_int

# Philox with key [seed, step] and counters from here on. The sampler's begin at zero, and those of
# the normal numbers of `keras_svag.sde` at [0, 0, 0, 1]; 3 is that of `Dataset.subset`, and 4 that
# of `UniformAugmentation`: no stream comes near another.
COUNTER = (0, 0, 0, 2)


@dataclasses.dataclass(frozen=True)
class PadCropFlip:
    """Random crop of the zero-padded image, then a horizontal flip with probability 1/2.

    The augmentation of Li, Malladi, Arora's code (arXiv 2102.12470) for CIFAR, before
    normalisation, so that the border is black and not the mean colour.

    Attributes:
        padding: pixels of zeros on each side, at most 127. The crop has the size of the image, so
            there are `(2 padding + 1)^2` of them, all equally likely. Defaults to `4`.
        flip: whether to flip half of the images from left to right. Defaults to `True`.

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

    def draw(self, seed, start, stop, length):
        """The augmentations of the steps `start` to `stop - 1`.

        They belong to a place in the batch and not to an example: drawn with replacement, an
        example may stand in a batch twice, and then gets two independent augmentations, as the
        theory (independent gradients) wants. Place i of a step is the same at any `length`.

        Args:
            seed: int >= 0, which may be that of a `Sampler`: the streams are independent.
            start: first step, counted from 0.
            stop: the step after the last.
            length: images in the batch of a step.

        Returns:
            A uint8 array of shape `(stop - start, length, 3)`: row offset and column offset of the
            crop, from 0 to `2 padding` where `padding` is the image itself, and 1 for a flip.

        Raises:
            ValueError: if an argument is out of range.
        """
        seed = positive_int("seed", seed, minimum=0)
        start = positive_int("start", start, minimum=0)
        stop = positive_int("stop", stop, minimum=start)
        length = positive_int("length", length)
        words = np.empty((stop - start, length), np.uint64)
        for row, step in enumerate(range(start, stop)):
            key = np.array([seed, step], np.uint64)
            stream = np.random.Philox(key=key, counter=np.array(COUNTER, np.uint64))
            words[row] = stream.random_raw(length)
        # One word of 64 bits for each image, read as a number of mixed base: its digits are uniform
        # up to 1 in 2^48.
        size = np.uint64(2 * self.padding + 1)
        rows, words = words % size, words // size
        columns, words = words % size, words // size
        flips = words % np.uint64(2 if self.flip else 1)
        return np.stack([rows, columns, flips], axis=-1).astype(np.uint8)

    def apply(self, x, params):
        """Augments a batch; works inside compiled programs.

        Args:
            x: images of shape `(b, height, width, channels)` and any dtype.
            params: integers of shape `(b, 3)`, a step of what `draw` gave.

        Returns:
            Images of the same shape and dtype: a NumPy array if both arguments are, else a tensor
            with the same values.

        Raises:
            ValueError: if the shapes are not as described.
        """
        if len(x.shape) != 4 or len(params.shape) != 2 or params.shape[-1] != 3:
            raise ValueError(
                "`x` must have the shape (b, height, width, channels), and `params` (b, 3). "
                f"Received: x.shape={tuple(x.shape)}, params.shape={tuple(params.shape)}"
            )
        numpy = isinstance(x, np.ndarray) and isinstance(params, np.ndarray)
        ops = np if numpy else keras.ops
        # Only the size of the batch may be unknown while a program is traced.
        count = x.shape[0] if numpy else ops.shape(x)[0]
        height, width, channels = x.shape[1:]
        params = params.astype(np.int32) if numpy else ops.cast(params, "int32")
        row = params[:, 0, None] + np.arange(height, dtype=np.int32)
        column = np.arange(width, dtype=np.int32)
        column = params[:, 1, None] + ops.where(params[:, 2, None] > 0, column[::-1], column)
        # One gather of pixels from all images in a row: 2 ms for 256 images of 32x32 on a CPU,
        # where a chain of selects takes 30.
        border = (self.padding, self.padding)
        padded = ops.pad(x, ((0, 0), border, border, (0, 0)))
        image = ops.arange(count, dtype="int32")[:, None] * (height + 2 * self.padding)
        index = (image + row)[:, :, None] * (width + 2 * self.padding) + column[:, None, :]
        return ops.take(ops.reshape(padded, (-1, channels)), index, axis=0)
