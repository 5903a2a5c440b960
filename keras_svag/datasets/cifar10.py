"""CIFAR-10 as the authors of the paper use it: normalised, cropped and flipped at random."""

from keras_svag.datasets.tfds import tfds

# Of Li, Malladi, Arora's code, for pixels in [0, 1].
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def cifar10(data_dir=None, augment=True, num_train=None, num_test=None):
    """Loads CIFAR-10: 50,000 training and 10,000 test images of 32x32x3 in ten classes.

    Nothing is downloaded; `python -m keras_svag.datasets.prepare cifar10` does that.

    Args:
        data_dir: folder of tensorflow_datasets, or the folder that
            `python -m keras_svag.datasets.prepare` printed, perhaps on another machine. Defaults to
            `None`, meaning the environment variable TFDS_DATA_DIR or `~/tensorflow_datasets`.
        augment: whether training images are to be cropped (padding 4) and flipped at random.
            Defaults to `True`.
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
        "cifar10",
        mean=MEAN,
        std=STD,
        data_dir=data_dir,
        augment=augment,
        num_train=num_train,
        num_test=num_test,
    )
