"""CIFAR-100 as the authors of the paper use it: normalised, cropped and flipped at random."""

from keras_svag.datasets.cifar10 import MEAN, STD
from keras_svag.datasets.tfds import tfds


def cifar100(data_dir=None, augment=True, num_train=None, num_test=None):
    """Loads CIFAR-100: 50,000 training and 10,000 test images of 32x32x3 in 100 classes.

    Normalised by the constants of CIFAR-10, as in Li, Malladi, Arora's code.

    Args:
        data_dir: as for `cifar10`.
        augment: whether training images are to be cropped (padding 4) and flipped at random.
            Defaults to `True`.
        num_train: size of a fixed, class-balanced subset for training, or `None` for all images.
            Defaults to `None`.
        num_test: the same for testing.

    Returns:
        A `Dataset` of uint8 images and int32 labels (the fine ones), with the `normalization` and
        `augmentation` to apply to them.

    Raises:
        ValueError: if the data set is neither cached nor prepared, saying how to prepare it.
    """
    return tfds(
        "cifar100",
        mean=MEAN,
        std=STD,
        data_dir=data_dir,
        augment=augment,
        num_train=num_train,
        num_test=num_test,
    )
