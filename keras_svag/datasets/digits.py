"""scikit-learn's handwritten digits, which need no download."""

import numpy as np

from keras_svag._checks import positive_int
from keras_svag.datasets.dataset import Dataset

TEST_SIZE = 360


def digits(
    split_seed: int = 0, num_train: int | None = None, num_test: int | None = None
) -> Dataset:
    """Loads the 1,797 handwritten digits of scikit-learn, 8x8 gray images in ten classes.

    Args:
        split_seed: int that determines the split into 1,437 training and 360 test images. Defaults
            to `0`.
        num_train: size of a fixed, class-balanced training subset. Defaults to `None`: all images.
        num_test: size of a fixed, class-balanced test subset. Defaults to `None`: all images.

    Returns:
        A `Dataset` of float32 images of shape `(8, 8)`, pixel values `x / 16 - 0.3` (from -0.3 to
        0.7), and int32 labels.

    Example:

    >>> digits().train_x.shape, digits(num_train=100).train_x.shape
    ((1437, 8, 8), (100, 8, 8))
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError(
            f"The digits come with scikit-learn, which cannot be imported ({error}). Received: "
            "dataset 'digits'. Install it: pip install 'keras-svag[digits]'"
        ) from error

    if positive_int("split_seed", split_seed, minimum=0) >= 2**32:
        raise ValueError(
            f"`split_seed` must be smaller than 2^32. Received: split_seed={split_seed}"
        )
    data = load_digits()
    images = (data.images / 16.0 - 0.3).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, data.target.astype(np.int32), test_size=TEST_SIZE, random_state=split_seed
    )
    dataset = Dataset("digits", train_x, train_y, test_x, test_y, num_classes=10)
    return dataset.subset(num_train, num_test)
