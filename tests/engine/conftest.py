"""Fixtures: what costs a compilation and is therefore made once, and SIGTERM in this process."""

import signal

import pytest

from keras_svag.datasets import digits
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.processes import preemption
from keras_svag.engine.spec import RunSpec
from tests.engine.helpers import execute
from tests.studies.helpers import build, run_study, study_config

RUN = RunSpec(batch_size=128, learning_rate=3.2, ell=2.0, seed=1, total=22)


@pytest.fixture(scope="session")
def dataset():
    return digits()


@pytest.fixture(scope="session")
def study():
    """The quick study of the digits."""
    return build(study_config())


@pytest.fixture(scope="session")
def recipe(study):
    return study.recipe


@pytest.fixture(scope="session")
def recording(study):
    """Ten records a run, and checkpoints after those of number 3, 6, 9 and 10."""
    return study.recording


@pytest.fixture(scope="session")
def program(recipe, recording):
    """The program of batch size 128; whoever uses it must `start` it."""
    return CompiledTraining(recipe, recording, batch_size=128)


@pytest.fixture(scope="session")
def uninterrupted(program, recording, tmp_path_factory):
    """Folder of `RUN`, executed without interruption."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    execute(RUN, program, recording, workdir)
    return workdir


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Folder and `Result` of a finished study; nobody may write to it."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, run_study(study_config(), "sde_validity", workdir)


@pytest.fixture
def watched():
    """SIGTERM asks runs of this process to end, for as long as the test lasts."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda signum, frame: preemption.request(signum))
    yield
    signal.signal(signal.SIGTERM, before)
    forget_request()


def forget_request():
    preemption._received.clear()
