"""Any image data set of tensorflow_datasets, by name."""

import dataclasses

import numpy as np

from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.tfds.arrays import load_images


def tfds(
    tfds_name, mean, std, data_dir=None, augment=False, flip=True, num_train=None, num_test=None
):
    """Loads a data set of tensorflow_datasets: images of one size with a class each.

    Nothing is downloaded; `python -m keras_svag.datasets.prepare <tfds_name>` does that.

    Args:
        tfds_name: its name there, such as `"fashion_mnist"`, or `"name/config"`. It must have the
            splits "train" and "test".
        mean: numbers, one for each channel, for pixels in [0, 1]; one number alone is for all.
        std: numbers > 0, the same.
        data_dir: folder of tensorflow_datasets, or the folder that
            `python -m keras_svag.datasets.prepare` printed, perhaps on another machine. Defaults to
            `None`, meaning the environment variable TFDS_DATA_DIR or `~/tensorflow_datasets`.
        augment: whether training images are to be cropped at random (padding 4).
            Defaults to `False`.
        flip: whether `augment` is also to flip half of them from left to right. Defaults to `True`.
        num_train: size of a fixed, class-balanced subset for training, or `None` for all images.
            Defaults to `None`.
        num_test: the same for testing.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with the `normalization` and `augmentation` to
        apply to them.

    Raises:
        ValueError: if the data set is neither cached nor prepared, saying how to prepare it; if it
            is of another kind; or if `mean` and `std` do not fit its channels.
    """
    whole = load_images(tfds_name, data_dir)
    channels = whole.input_shape[-1]
    mean, std = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
    augmentation = PadCropFlip(flip=flip) if augment else None
    normalization = Normalization(mean, std)
    whole = dataclasses.replace(whole, normalization=normalization, augmentation=augmentation)
    return whole.subset(num_train, num_test)


def _per_channel(name, value, channels):
    if not isinstance(value, (list, tuple, np.ndarray)):
        return (value,) * channels
    if len(value) != channels:
        raise ValueError(
            f"`{name}` must be one number for each of the {channels} channels, or one number. "
            f"Received: {name}={value!r}"
        )
    return tuple(value)
