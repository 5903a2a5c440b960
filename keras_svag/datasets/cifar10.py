"""CIFAR-10 through tensorflow_datasets, normalised as the authors of the paper do."""

import numpy as np

from keras_svag.datasets.dataset import Dataset

# Per-channel constants of Li, Malladi, Arora's code, for pixels in [0, 1].
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


def cifar10(data_dir=None):
    """Loads CIFAR-10: 50,000 training and 10,000 test images of 32x32x3 in ten classes.

    Nothing is downloaded: the data set must have been prepared by tensorflow_datasets.

    Args:
        data_dir: folder of tensorflow_datasets. Defaults to `None`, meaning the environment
            variable TFDS_DATA_DIR or `~/tensorflow_datasets`.

    Returns:
        A `Dataset` of normalised float32 images and int32 labels, not augmented.

    Raises:
        ValueError: if tensorflow_datasets is not installed or the data set is not prepared.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            "Data set 'cifar10' needs tensorflow_datasets, which cannot be imported "
            f"({error}). Install it with `pip install 'keras-svag[tfds]'`."
        ) from error
    builder = tfds.builder("cifar10", data_dir=data_dir)
    if not builder.is_prepared():
        raise ValueError(
            "`dataset.name` must be a data set that is on this machine; 'cifar10' is not prepared "
            f"in {builder.data_dir}. Received: data_dir={data_dir!r}. "
            "Where there is a network, run "
            "python -c \"import tensorflow_datasets as tfds; tfds.load('cifar10')\", and set the "
            "environment variable TFDS_DATA_DIR to the folder in which it says the data is."
        )
    arrays = []
    for split in ("train", "test"):
        data = builder.as_dataset(split, batch_size=-1, as_supervised=True, shuffle_files=False)
        images, labels = tfds.as_numpy(data)
        scaled = images.astype(np.float32) / 255.0
        arrays += [(scaled - np.float32(MEAN)) / np.float32(STD), labels.astype(np.int32)]
    return Dataset("cifar10", *arrays, num_classes=10)
