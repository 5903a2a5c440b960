"""What all tests share; it is read before any test file imports TensorFlow."""

import gc
import importlib.util
import multiprocessing
import os
import pathlib
import random
import signal
import sys

import numpy as np
import pytest

# TensorFlow tells of its CPU features on import; that would drown what a failing test says.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Begun first, so that no worker is left with one of these when the others have nothing to do.
# pytest-xdist would begin with the files that have most tests, which are not those that take long.
LONG_FILES = (
    "distribution/replicas_test.py",
    "docs_test.py",
    "benchmarks/memory_test.py",
    "engine/killed_test.py",
    "golden_test.py",
    "extension_test.py",
    "engine/transfer_test.py",
    "optional_test.py",
    "noise/scale_test.py",
)


def pytest_configure(config):
    """Keeps the order below, where pytest-xdist is installed, and lets Ctrl-C reach the tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    # Shells start jobs in the background with Ctrl-C ignored, which tests of Ctrl-C would wait for.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Sorts the files that take long to the front."""
    folder = pathlib.Path(__file__).parent

    def position(item):
        inside = item.path.is_relative_to(folder)
        name = item.path.relative_to(folder).as_posix() if inside else ""
        return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)

    items.sort(key=position)


def pytest_runtest_setup(item):
    """Skips tests of what only one backend has."""
    import keras

    for backend in ("tensorflow", "jax"):
        if item.get_closest_marker(f"requires_{backend}") and keras.backend.backend() != backend:
            pytest.skip(f"is about the {backend} backend alone; set KERAS_BACKEND={backend}")


@pytest.fixture(autouse=True, scope="session")
def fork_server():
    """Workers are forks of a process that has imported the backend, as those of the trainers."""
    if sys.platform == "linux":
        multiprocessing.set_start_method("forkserver", force=True)
        multiprocessing.set_forkserver_preload(["keras_svag.engine.processes.worker"])


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """What a file leaves in memory, traced programs above all, is searched for garbage once."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def without_figures(monkeypatch):
    """Studies of this process draw no figures, which cost seconds each time."""
    from tests.studies.helpers import hide_figures

    hide_figures(monkeypatch)


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """Programs that a test calls as functions leave the signals of this process alone."""
    if importlib.util.find_spec("trainers"):  # not where the package alone is installed
        monkeypatch.setattr("trainers.startup.begin", lambda: None)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Each call has the same random numbers, by which Keras draws seeds of layers and shuffles."""
    random.seed(0)
    np.random.seed(0)
