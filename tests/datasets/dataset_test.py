"""Tests of keras_svag/datasets/dataset.py."""

import numpy as np
import pytest

from keras_svag.datasets import Dataset, Normalization, PadCropFlip, digits


def make(labels=None, **changes):
    labels = np.tile(np.arange(4), 25) if labels is None else np.asarray(labels)
    x = np.arange(len(labels) * 6).reshape(len(labels), 3, 2, 1)
    fields = {
        "name": "made_up",
        "train_x": x,
        "train_y": labels,
        "test_x": x[:40],
        "test_y": labels[:40],
        "num_classes": 4,
    }
    return Dataset(**(fields | changes))


def test_properties():
    dataset = make(train_y=np.tile(np.arange(4), 25).astype(np.uint8))
    assert (dataset.num_train, dataset.input_shape) == (100, (3, 2, 1))
    assert dataset.train_y.dtype == dataset.test_y.dtype == np.int32
    assert dataset.normalization is dataset.augmentation is None


@pytest.mark.parametrize("num_train", [1, 4, 20, 22, 99, 100])
def test_subset_is_balanced_and_keeps_the_order(num_train):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.tile(np.arange(4), 25))
    whole = make(labels, augmentation=PadCropFlip())
    part = whole.subset(num_train)
    counts = np.bincount(part.train_y, minlength=4)
    assert counts.sum() == num_train and counts.max() - counts.min() <= 1
    rows = part.train_x[:, 0, 0, 0] // 6  # each image tells its number
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(part.train_x, whole.train_x[rows])
    np.testing.assert_array_equal(part.train_y, whole.train_y[rows])
    assert part.test_x is whole.test_x and part.augmentation == whole.augmentation


def test_subset_is_fixed_random_and_nested():
    whole = make()

    def rows(*arguments, **options):
        return whole.subset(*arguments, **options).train_x[:, 0, 0, 0] // 6

    np.testing.assert_array_equal(rows(40), rows(40, seed=0))
    assert not np.array_equal(rows(40), rows(40, seed=1))
    assert set(rows(13)) < set(rows(40)) < set(rows(70))
    # Every example is in a subset of 40 of 100 with probability 0.4: binomial over 200 seeds.
    counts = np.bincount(np.concatenate([rows(40, seed=seed) for seed in range(200)]))
    assert np.abs(counts - 80).max() < 4.5 * np.sqrt(200 * 0.4 * 0.6)


def test_subset_for_testing():
    part = make().subset(num_test=8)
    assert part.num_train == 100 and np.bincount(part.test_y).tolist() == [2, 2, 2, 2]


def test_subset_of_rare_classes():
    labels = [0] * 40 + [1] * 5 + [2] * 40 + [3] * 40
    whole = make(labels)
    assert np.bincount(whole.subset(20).train_y).tolist() == [5, 5, 5, 5]
    message = "`num_train` must be at most 20, .*rarest of the 4 classes .* Received: num_train=24"
    with pytest.raises(ValueError, match=message):
        whole.subset(24)
    for count in (0, 2.5):
        with pytest.raises(ValueError, match="`num_test` must be an integer >= 1"):
            whole.subset(num_test=count)


def test_subset_by_the_function_of_a_data_set():
    part, whole = digits(num_train=100, num_test=50), digits()
    assert np.bincount(part.train_y).tolist() == [10] * 10
    assert np.bincount(part.test_y).tolist() == [5] * 10
    np.testing.assert_array_equal(part.train_x, whole.subset(100).train_x)


def with_nan(value):
    x = np.zeros((100, 3, 2, 1), np.float32)
    x[[17, 30], 1] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "`num_classes` must be an integer >= 1"),
        (
            {"num_classes": 3},
            "`train_y` must hold labels from 0 to 2.*labels from 0 to 3",
        ),
        ({"test_y": np.full(40, -1)}, "`test_y` must hold labels from 0 to 3.*from -1 to -1"),
        ({"train_y": np.zeros(100)}, r"`train_y` must be integers.*dtype=float64"),
        ({"train_y": np.zeros(99, int)}, r"of shape \(100,\).*train_y.shape=\(99,\)"),
        ({"train_y": np.zeros((100, 1), int)}, r"Received: train_y.shape=\(100, 1\)"),
        (
            {"train_x": np.zeros((0, 3, 2, 1)), "train_y": np.zeros(0, int)},
            "`train_x` must have shape",
        ),
        ({"train_x": with_nan(np.nan)}, "Received: 2 examples with NaN or infinity, .* index 17"),
        ({"train_x": with_nan(-np.inf)}, "`train_x` must hold finite numbers"),
        ({"train_x": np.full((100, 3, 2, 1), "a")}, "`train_x` must hold numbers"),
        ({"test_x": np.zeros((40, 2, 3, 1))}, r"shape \(3, 2, 1\).*test_x.shape=\(40, 2, 3, 1\)"),
        ({"normalization": Normalization((0.5,) * 3, (0.5,) * 3)}, "integers with 3 channels"),
        (
            {"normalization": Normalization((0.5,), (1,)), "train_x": np.zeros((100, 3, 2, 1))},
            "`normalization` is for integers.*dtype=float64",
        ),
    ],
)
def test_wrong_data(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_augmentation_needs_images():
    x = np.zeros((100, 6), np.uint8)
    with pytest.raises(ValueError, match="`augmentation` .*needs images.*Received: train_x.shape"):
        make(train_x=x, test_x=x[:40], augmentation=PadCropFlip())
