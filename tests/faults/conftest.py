"""Fixtures of tests/faults, and how examples are made there."""

import pytest
from hypothesis import HealthCheck, settings

from keras_svag.datasets import digits

# The same examples each time, and as much time for one as it takes.
settings.register_profile(
    "faults",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def dataset():
    return digits()
