"""Tests of keras_svag/datasets/cifar100.py, on data that tensorflow_datasets makes up."""

import numpy as np

from keras_svag.datasets import DATASETS, Normalization, PadCropFlip, cifar100


def test_arrays_and_what_is_done_with_them(made_up, raw):
    with made_up():
        dataset = cifar100()
    x, y = raw("cifar100")
    np.testing.assert_array_equal(dataset.train_x, x)
    np.testing.assert_array_equal(dataset.train_y, y)
    assert y.max() > 19  # the fine labels: of the coarse ones there are 20
    assert (dataset.name, dataset.num_classes) == ("cifar100", 100)
    assert dataset.augmentation == PadCropFlip(padding=4, flip=True)
    assert dataset.normalization == Normalization(
        (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    )
    assert cifar100(augment=False).augmentation is None
    assert DATASETS["cifar100"] is cifar100
