"""Fixtures of the tests of data sets: a cache of their own, and data that tfds makes up."""

import contextlib

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_SVAG_CACHE", str(folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return folder


@pytest.fixture
def made_up():
    """A context in which tensorflow_datasets has `count` made-up examples in every split."""
    tfds = pytest.importorskip("tensorflow_datasets")

    @contextlib.contextmanager
    def mock(count=12):
        with pytest.MonkeyPatch.context() as patch, tfds.testing.mock_data(num_examples=count):
            patch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda builder: True)
            yield

    return mock


@pytest.fixture
def raw():
    """Reads a split with tensorflow_datasets itself, one example at a time."""

    def read(name, split="train", count=12):
        import tensorflow_datasets as tfds

        with tfds.testing.mock_data(num_examples=count):
            data = list(tfds.as_numpy(tfds.load(name, split=split, as_supervised=True)))
        return np.stack([x for x, _ in data]), np.array([y for _, y in data])

    return read
