"""Tests of keras_svag/datasets/cifar10.py, on data that tensorflow_datasets makes up."""

import sys

import numpy as np
import pytest

from keras_svag.datasets import cifar10
from keras_svag.datasets.cifar10 import MEAN, STD

tfds = pytest.importorskip("tensorflow_datasets")


def test_data_that_is_not_there_names_the_command_that_prepares_it(tmp_path):
    with pytest.raises(ValueError, match=r"not prepared in .*Received: data_dir=.*tfds.load") as e:
        cifar10(data_dir=str(tmp_path))
    assert str(tmp_path) in str(e.value)
    assert not list(tmp_path.iterdir())


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'keras-svag\[tfds\]'"):
        cifar10()


def test_arrays_and_normalisation(monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(20) % 10

    class Builder:
        """Stands for a prepared data set; what tfds reads from disk is its own affair."""

        data_dir = ""

        def is_prepared(self):
            """Says yes."""
            return True

        def as_dataset(self, split, **options):
            """Gives the arrays."""
            return (pixels, labels) if split == "train" else (pixels[:5], labels[:5])

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Builder())
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    dataset = cifar10()
    assert dataset.train_x.shape == (20, 32, 32, 3)
    assert dataset.test_x.shape == (5, 32, 32, 3)
    assert dataset.train_x.dtype == np.float32
    np.testing.assert_array_equal(dataset.train_y, labels)
    # Undo it in float64: pixels come back.
    restored = (np.float64(dataset.train_x) * STD + MEAN) * 255
    np.testing.assert_allclose(restored, pixels, atol=1e-3)
