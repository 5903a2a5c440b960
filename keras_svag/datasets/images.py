"""The image data sets of the paper, preprocessed as in its authors' code.

Nothing is downloaded here; `python -m keras_svag.datasets.prepare cifar10` does that. All three
take the arguments of `tfds`, and raise `ValueError` if the data set is neither cached nor prepared.
"""

import os

from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.tfds.by_name import tfds

# For pixels in [0, 1]. The authors normalize CIFAR-100 with the constants of CIFAR-10.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def cifar10(
    data_dir: str | os.PathLike | None = None,
    augment: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads CIFAR-10: 50,000 training and 10,000 test images of 32x32x3 in 10 classes.

    Args:
        data_dir: folder of tensorflow_datasets, or the one printed by
            `python -m keras_svag.datasets.prepare`, possibly copied from another machine. Defaults
            to `None`: the environment variable TFDS_DATA_DIR, or `~/tensorflow_datasets`.
        augment: bool, crop (padding 4) and flip training images at random. Defaults to `True`.
        num_train: size of a fixed, class-balanced training subset. Defaults to `None`: all images.
        num_test: size of a fixed, class-balanced test subset. Defaults to `None`: all images.
        image_size: int, 16 or another divisor of 32, to which images are reduced by averaging.
            Defaults to `None`: 32.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with its `normalization` and `augmentation`.

    Example:

    >>> dataset = cifar10()  # doctest: +SKIP
    """
    subset = num_train, num_test, image_size
    return tfds("cifar10", CIFAR_MEAN, CIFAR_STD, data_dir, augment, True, *subset)


def cifar100(
    data_dir: str | os.PathLike | None = None,
    augment: bool = True,
    num_train: int | None = None,
    num_test: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads CIFAR-100: 50,000 training and 10,000 test images of 32x32x3 in 100 (fine) classes.

    Args:
        data_dir: as for `cifar10`. Defaults to `None`.
        augment: bool, crop (padding 4) and flip training images at random. Defaults to `True`.
        num_train: size of a fixed, class-balanced training subset. Defaults to `None`: all images.
        num_test: size of a fixed, class-balanced test subset. Defaults to `None`: all images.
        image_size: int, 16 or another divisor of 32, to which images are reduced by averaging.
            Defaults to `None`: 32.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with its `normalization` and `augmentation`.

    Example:

    >>> dataset = cifar100()  # doctest: +SKIP
    """
    subset = num_train, num_test, image_size
    return tfds("cifar100", CIFAR_MEAN, CIFAR_STD, data_dir, augment, True, *subset)


def svhn(
    data_dir: str | os.PathLike | None = None,
    augment: bool = False,
    num_train: int | None = None,
    num_test: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Loads SVHN, cropped: 73,257 training and 26,032 test images of 32x32x3, digits 0 to 9.

    The 531,131 "extra" images are left out. Classes are not balanced. Pixels become -1 to 1.

    Args:
        data_dir: as for `cifar10`. Defaults to `None`.
        augment: bool, crop training images at random (padding 4), without flips, since a mirrored
            digit is not a digit. Defaults to `False`, as in the authors' code.
        num_train: size of a fixed, class-balanced training subset. Defaults to `None`: all images.
        num_test: size of a fixed, class-balanced test subset. Defaults to `None`: all images.
        image_size: int, 16 or another divisor of 32, to which images are reduced by averaging.
            Defaults to `None`: 32.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with its `normalization` and `augmentation`.

    Example:

    >>> dataset = svhn()  # doctest: +SKIP
    """
    subset = num_train, num_test, image_size
    return tfds("svhn_cropped", 0.5, 0.5, data_dir, augment, False, *subset)
