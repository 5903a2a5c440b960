"""Fixtures: a finished study, which costs a compilation and is made once, and synthetic ones."""

import pytest

from keras_svag.studies.base import study as study_module
from tests.studies.helpers import build, run_study, scaling_config, study_config
from tests.studies.synthetic import make_pool


@pytest.fixture(scope="session")
def study():
    """The study of the digits that `finished` has run."""
    return build(study_config())


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Folder and `Result` of a finished study; nobody may write to it."""
    workdir = tmp_path_factory.mktemp("finished")
    command = ["python", "-m", "trainers.sde_validity", "--workdir=/tmp/two words"]
    return workdir, run_study(study_config(), "sde_validity", workdir, command)


@pytest.fixture
def use_pool(monkeypatch, request):
    """A function that lets studies run on a stand-in for `RunPool`: see `synthetic.make_pool`."""

    def use(truth=None, pool=None, draw=False, **options):
        monkeypatch.setattr(study_module, "RunPool", pool or make_pool(truth, **options))
        if not draw:
            request.getfixturevalue("without_figures")

    return use


@pytest.fixture
def run_scaling(tmp_path, use_pool):
    """Runs a linear-scaling study on records with a known truth; returns its `Result`."""

    def start(truth, config=None, **options):
        use_pool(truth, **options)
        return run_study(config or scaling_config(), "linear_scaling", tmp_path)

    return start


@pytest.fixture
def scaling(run_scaling):
    """The same; returns the dict of `verdict.json`."""
    return lambda *arguments, **options: run_scaling(*arguments, **options).details
