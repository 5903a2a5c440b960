"""Tests of keras_svag/datasets/cifar10.py, on data that tensorflow_datasets makes up."""

import numpy as np

from keras_svag.datasets import DATASETS, Normalization, PadCropFlip, cifar10


def test_arrays_and_what_is_done_with_them(made_up, raw):
    with made_up():
        dataset = cifar10()
    for split in ("train", "test"):
        x, y = raw("cifar10", split)
        assert getattr(dataset, f"{split}_x").dtype == np.uint8
        assert getattr(dataset, f"{split}_y").dtype == np.int32
        np.testing.assert_array_equal(getattr(dataset, f"{split}_x"), x)
        np.testing.assert_array_equal(getattr(dataset, f"{split}_y"), y)
    assert (dataset.name, dataset.num_classes, dataset.input_shape) == ("cifar10", 10, (32, 32, 3))
    assert dataset.augmentation == PadCropFlip(padding=4, flip=True)
    assert dataset.normalization == Normalization(
        (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    )
    assert cifar10(augment=False).augmentation is None
    assert DATASETS["cifar10"] is cifar10


def test_subset(made_up):
    with made_up(200):  # some twenty of each class
        part = cifar10(num_train=20, num_test=10)
    assert np.bincount(part.train_y).tolist() == [2] * 10
    assert np.bincount(part.test_y).tolist() == [1] * 10
