"""Tests of keras_svag/datasets/images.py, on data that tensorflow_datasets makes up."""

import numpy as np
import pytest

from keras_svag.datasets import DATASETS, Normalization, PadCropFlip, cifar10

CIFAR = Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
SVHN = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "tfds_name", "num_classes", "normalization", "augments", "flip"),
    [
        ("cifar10", "cifar10", 10, CIFAR, True, True),
        ("cifar100", "cifar100", 100, CIFAR, True, True),
        ("svhn", "svhn_cropped", 10, SVHN, False, False),
    ],
)
def test_arrays_and_preprocessing(
    made_up, raw, name, tfds_name, num_classes, normalization, augments, flip
):
    load = DATASETS[name]
    with made_up():
        dataset = load()
    for split in ("train", "test"):
        x, y = raw(tfds_name, split)
        assert getattr(dataset, f"{split}_x").dtype == np.uint8
        assert getattr(dataset, f"{split}_y").dtype == np.int32
        np.testing.assert_array_equal(getattr(dataset, f"{split}_x"), x)
        np.testing.assert_array_equal(getattr(dataset, f"{split}_y"), y)
        assert name != "cifar100" or y.max() > 19  # fine labels: there are 20 coarse ones
    assert (dataset.name, dataset.num_classes) == (name, num_classes)
    assert dataset.input_shape == (32, 32, 3)
    assert dataset.normalization == normalization
    augmentation = PadCropFlip(padding=4, flip=flip)
    assert dataset.augmentation == (augmentation if augments else None)
    assert load(augment=True).augmentation == augmentation
    assert load(augment=False).augmentation is None


def test_subset(made_up):
    with made_up(200):  # some twenty of each class
        part = cifar10(num_train=20, num_test=10)
    assert np.bincount(part.train_y).tolist() == [2] * 10
    assert np.bincount(part.test_y).tolist() == [1] * 10
