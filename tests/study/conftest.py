"""Fixtures: what costs a compilation and is therefore made once, and SIGTERM in this process."""

import signal

import pytest

from keras_svag.datasets import digits
from keras_svag.study import preemption, run_sde_validity
from keras_svag.study.config import validate_config
from keras_svag.study.program import Program
from tests.study.helpers import study_config


@pytest.fixture(scope="session")
def dataset():
    return digits()


@pytest.fixture(scope="session")
def config():
    return validate_config(study_config())


@pytest.fixture(scope="session")
def program(config, dataset):
    """The program of batch size 128; whoever uses it must `start` it."""
    return Program(config, dataset, batch_size=128)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Folder and verdict of a finished study; nobody may write to it."""
    workdir = tmp_path_factory.mktemp("finished")
    command = ["python", "-m", "trainers.sde_validity", "--workdir=/tmp/two words"]
    return workdir, run_sde_validity(study_config(), workdir, command, show_progress=False)


@pytest.fixture
def watched():
    """SIGTERM asks runs of this process to end, for as long as the test lasts."""
    before = signal.getsignal(signal.SIGTERM)
    preemption.watch()
    yield
    signal.signal(signal.SIGTERM, before)
    preemption._requested.clear()
