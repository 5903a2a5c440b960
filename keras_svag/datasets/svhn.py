"""SVHN (house numbers) as the authors of the paper use it: normalised, not augmented."""

from keras_svag.datasets.tfds import tfds

# Of Li, Malladi, Arora's code: pixels from -1 to 1.
MEAN, STD = 0.5, 0.5


def svhn(data_dir=None, augment=False, num_train=None, num_test=None):
    """Loads SVHN, cropped: 73,257 training and 26,032 test images of 32x32x3, digits 0 to 9.

    Without the 531,131 "extra" images. The classes are not equally frequent.

    Args:
        data_dir: as for `cifar10`.
        augment: whether training images are to be cropped at random (padding 4, no flip: a mirrored
            digit is none). Defaults to `False`, as in Li, Malladi, Arora's code.
        num_train: size of a fixed, class-balanced subset for training, or `None` for all images.
            Defaults to `None`.
        num_test: the same for testing.

    Returns:
        A `Dataset` of uint8 images and int32 labels, with the `normalization` and `augmentation` to
        apply to them.

    Raises:
        ValueError: if the data set is neither cached nor prepared, saying how to prepare it.
    """
    return tfds(
        "svhn_cropped",
        mean=MEAN,
        std=STD,
        data_dir=data_dir,
        augment=augment,
        flip=False,
        num_train=num_train,
        num_test=num_test,
    )
