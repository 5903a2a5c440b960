"""Image data sets of tensorflow_datasets, by name."""

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence

import numpy as np

from keras_svag._checks import positive_int
from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.tfds.arrays import load_images


def tfds(
    tfds_name: str,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    data_dir: str | os.PathLike | None = None,
    augment: bool = False,
    flip: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads a data set of tensorflow_datasets with images of one size and one label each.

    Nothing is downloaded; `python -m keras_svag.datasets.prepare <tfds_name>` does that.

    Args:
        tfds_name: name such as `"fashion_mnist"`, or `"name/config"`, of a data set with the splits
            "train" and "test".
        mean: numbers, one per channel, for pixels in [0, 1]; or one number for all channels.
        std: numbers > 0, likewise.
        data_dir: folder of tensorflow_datasets, or the one printed by
            `python -m keras_svag.datasets.prepare`, possibly copied from another machine. Defaults
            to `None`: the environment variable TFDS_DATA_DIR, or `~/tensorflow_datasets`.
        augment: bool, crop training images at random (padding 4). Defaults to `False`.
        flip: bool, with `augment`, also flip half of them left to right. Defaults to `True`.
        num_train: size of a fixed, class-balanced training subset. Defaults to `None`: all images.
        num_test: size of a fixed, class-balanced test subset. Defaults to `None`: all images.
        image_size: int, height and width to which square images are reduced by averaging equal
            blocks of pixels; crops then pad by a smaller margin in proportion. Defaults to `None`:
            the images as they are.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with its `normalization` and `augmentation`.

    Raises:
        ValueError: if the data set is not prepared, is of another kind, or does not match `mean`
            and `std`, or `image_size` does not divide the size of the images.

    Example:

    >>> dataset = tfds("fashion_mnist", mean=0.286, std=0.353)  # doctest: +SKIP
    """
    dataset = load_images(tfds_name, data_dir)
    height, _, channels = dataset.input_shape
    padding = PadCropFlip.padding
    if image_size is not None:
        padding = math.ceil(padding * positive_int("image_size", image_size) / height)
    normalization = Normalization(
        _per_channel("mean", mean, channels), _per_channel("std", std, channels)
    )
    augmentation = PadCropFlip(padding, flip) if augment else None
    dataset = dataclasses.replace(dataset, normalization=normalization, augmentation=augmentation)
    dataset = dataset.subset(num_train, num_test)
    return dataset if image_size is None else _reduce(dataset, image_size)


def _reduce(dataset, size):
    height, width, _ = dataset.input_shape
    if height != width or height % size:
        raise ValueError(
            "`image_size` must divide the height and width of square images. "
            f"Received: image_size={size}, images of {height} x {width}"
        )
    parts = {name: _block_means(getattr(dataset, name), size) for name in ("train_x", "test_x")}
    return dataclasses.replace(dataset, **parts)


def _block_means(images, size):
    """Returns uint8 images of height and width `size`, each pixel the mean of a block."""
    # About a second for 60,000 images: not worth a cache of its own.
    step = images.shape[1] // size
    sums = np.zeros((len(images), size, size, images.shape[-1]), np.uint32)
    for row, column in itertools.product(range(step), repeat=2):
        sums += images[:, row::step, column::step]
    return ((sums + step**2 // 2) // step**2).astype(np.uint8)


def _per_channel(name, value, channels):
    if not isinstance(value, (list, tuple, np.ndarray)):
        return (value,) * channels
    if len(value) != channels:
        raise ValueError(
            f"`{name}` must be one number, or one for each of the {channels} channels. "
            f"Received: {name}={value!r}"
        )
    return tuple(value)
