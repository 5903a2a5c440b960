"""Tests of keras_svag/datasets/digits.py."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_svag.datasets import DATASETS, digits


@pytest.fixture(scope="module")
def source():
    return load_digits()


def test_shapes_and_types():
    data = digits()
    assert data.train_x.shape == (1437, 8, 8) and data.test_x.shape == (360, 8, 8)
    assert data.train_y.shape == (1437,) and data.test_y.shape == (360,)
    assert data.train_x.dtype == data.test_x.dtype == np.float32
    assert data.train_y.dtype == data.test_y.dtype == np.int32
    assert (data.name, data.num_classes, data.num_train) == ("digits", 10, 1437)
    assert DATASETS["digits"] is digits


def test_every_image_appears_once_with_its_label(source):
    # x / 16 - 0.3 of the raw pixels 0 to 16, undone; images as sorted rows with their label.
    data = digits()
    images = np.concatenate([data.train_x, data.test_x]).reshape(-1, 64)
    labels = np.concatenate([data.train_y, data.test_y])
    raw = (images.astype(np.float64) + 0.3) * 16
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-5)
    got = np.column_stack([np.round(raw), labels])
    expected = np.column_stack([source.data, source.target])
    np.testing.assert_array_equal(got[np.lexsort(got.T)], expected[np.lexsort(expected.T)])
    assert images.min() == np.float32(-0.3) and images.max() == np.float32(0.7)


def test_split_is_a_function_of_its_seed():
    first, again, other = digits(), digits(split_seed=0), digits(split_seed=1)
    np.testing.assert_array_equal(first.train_x, again.train_x)
    np.testing.assert_array_equal(first.test_y, again.test_y)
    assert not np.array_equal(first.test_x, other.test_x)


def test_split_is_not_sorted_by_class():
    # In a random 360 of 1,797 each class's count is hypergeometric with mean about 36 and
    # standard deviation below sqrt(36 * 0.9 * 0.8) = 5.1: within 4 of those, seed fixed.
    counts = np.bincount(digits().test_y, minlength=10)
    expected = np.bincount(load_digits().target) * 360 / 1797
    assert np.all(np.abs(counts - expected) < 4 * 5.1)
