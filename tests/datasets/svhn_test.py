"""Tests of keras_svag/datasets/svhn.py, on data that tensorflow_datasets makes up."""

import numpy as np

from keras_svag.datasets import DATASETS, Normalization, PadCropFlip, svhn


def test_arrays_and_what_is_done_with_them(made_up, raw):
    with made_up():
        dataset = svhn()
    x, y = raw("svhn_cropped")
    np.testing.assert_array_equal(dataset.train_x, x)
    np.testing.assert_array_equal(dataset.train_y, y)
    assert (dataset.name, dataset.num_classes) == ("svhn", 10)
    assert dataset.normalization == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert dataset.augmentation is None
    assert svhn(augment=True).augmentation == PadCropFlip(padding=4, flip=False)
    assert DATASETS["svhn"] is svhn
