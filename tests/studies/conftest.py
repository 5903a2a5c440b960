"""Fixtures: a finished study, which costs a compilation and is made once, and synthetic ones."""

import pytest

from keras_svag.studies import study as study_module
from tests.studies.helpers import build, run_study, study_config
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
def use_pool(monkeypatch):
    """A function that lets studies run on a stand-in for `RunPool`: see `synthetic.make_pool`."""

    def use(truth=None, pool=None, draw=False, **options):
        monkeypatch.setattr(study_module, "RunPool", pool or make_pool(truth, **options))
        for cls in [] if draw else study_module.Study.__subclasses__():
            monkeypatch.setattr(cls, "figures", lambda *_: [])  # they cost seconds

    return use
