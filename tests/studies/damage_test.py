"""Damaged folders: an error of one sentence, whatever the files hold."""

import shutil

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.studies import SDEValidity, load
from keras_svag.studies.status import read_status


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def study():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    recipe = Recipe(build, (x, x[:, :1]), keras.optimizers.SGD(0.05), "mse", 4, epochs=2)
    return SDEValidity(recipe, ells=(1, 2), num_seeds=2, max_num_seeds=2, num_records=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("damage") / "study"
    study().run(workdir, num_workers=1, show_progress=False)
    return workdir


RESULTS = ("[]", "{}", '{"status": "done"}', '{"status":')


@pytest.mark.parametrize("text", RESULTS)
def test_result_of_a_run(finished, tmp_path, text):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (workdir / "runs" / "b4_ell1_seed0" / "result.json").write_text(text)
    for call in (load, read_status, lambda w: study().run(w, num_workers=1, show_progress=False)):
        with pytest.raises(ValueError, match=r"result\.json"):
            call(workdir)


def test_records_that_are_gone_are_trained_again(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    path = workdir / "runs" / "b4_ell1_seed0" / "metrics.jsonl"
    before = path.read_text()
    path.write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl"):
        load(workdir)
    assert read_status(workdir).done == 4
    with pytest.warns(UserWarning, match="damaged or incomplete"):
        study().run(workdir, num_workers=1, show_progress=False)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["[]", '{"4": 3}', '{"4": [{'])
def test_looks(finished, tmp_path, text):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    before = (workdir / "looks.json").read_text()
    (workdir / "looks.json").write_text(text)
    for call in (load, lambda w: study().run(w, num_workers=1, show_progress=False)):
        with pytest.raises(ValueError, match=r"looks\.json.*damaged.*move it away"):
            call(workdir)
    (workdir / "looks.json").unlink()
    study().run(workdir, num_workers=1, show_progress=False)
    assert (workdir / "looks.json").read_text() == before


SETTINGS = {
    "config.json": ('{"study": "sde_validity"}', "[]", "{}"),
    "environment.json": ('{"facts": {"a": 1}}', '{"facts": null}', "{}", "[]"),
}


@pytest.mark.parametrize("name, text", [(n, t) for n, texts in SETTINGS.items() for t in texts])
def test_settings(finished, tmp_path, name, text):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (workdir / name).write_text(text)
    for call in (load, read_status):
        with pytest.raises(ValueError, match="copy"):
            call(workdir)
