"""Fixtures of tests/faults."""

import pytest

from keras_svag.datasets import digits


@pytest.fixture(scope="session")
def dataset():
    return digits()
