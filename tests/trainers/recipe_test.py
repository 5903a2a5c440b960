"""Trainers with `--recipe`: a model and data of one's own, from a file."""

import json

import pytest

from tests.studies.helpers import files_of
from tests.trainers.command import assert_refused, load, trainer

SOURCE = """
import keras
import numpy as np

from keras_svag import Recipe

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")

def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

def make(optimizer=None):
    optimizer = optimizer or keras.optimizers.SGD(0.05)
    return Recipe(build, (X, X[:, :1]), optimizer, "mse", batch_size=8, epochs=4)

def make_adam():
    return make(keras.optimizers.Adam(0.01))

def make_other_data():
    recipe = make()
    return Recipe(build, (X + 1, X[:, :1]), recipe.optimizer, "mse", batch_size=8, epochs=4)

def make_by_name():
    return Recipe(build, (X, X[:, :1]), "adam", "mse", batch_size=8, epochs=4)

def ignore_seed():
    return Recipe(lambda seed: build(0), (X, X[:, :1]), keras.optimizers.SGD(0.05), "mse", 8, 4)

def fail():
    raise RuntimeError("no data today")

def number():
    return 3

SETTING = 3
"""
FEW = [
    "--config.num_seeds=2",
    "--config.max_num_seeds=2",
    "--config.sde_validity.max_ell=8",
    "--config.num_workers=1",
]
ELLS = "--config.sde_validity.ells=1,2,4"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "my_recipe.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def study(file, tmp_path_factory):
    """The study of `make_adam` without --config: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("study") / "adam"
    done = trainer(f"--recipe={file}:make_adam", f"--workdir={workdir}", *FEW)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_without_config(study, file):
    workdir, done = study
    assert done.stdout.splitlines()[-1] == f"Report: {workdir / 'report.html'}"
    verdict = load(workdir / "verdict.json")
    assert [s["ell"] for s in verdict["settings"]] == [1, 2, 4, 8]
    assert verdict["optimizer"] == "SVAGAdam" and verdict["failed_runs"] == {}
    config = load(workdir / "config.json")
    assert config["recipe"]["source"] == "my_recipe.py:make_adam"
    assert config["sde_validity"]["batch_sizes"] == [8]
    assert f"--recipe={file}:make_adam" in load(workdir / "environment.json")["command"]


def test_verdict_on_adam_is_of_adam(study):
    workdir, done = study
    verdict = (workdir / "verdict.json").read_text()
    for text in (done.stdout, json.loads(verdict)["verdicts"][0]["reason"]):
        assert "SGD" not in text
    assert "Adam" in done.stdout
    report = (workdir / "report.html").read_text("utf-8")
    assert "Is Adam well modeled" in report


def test_with_a_config_for_the_studys_fields(file, tmp_path):
    workdir = tmp_path / "study"
    arguments = [f"--recipe={file}:make", "--config=configs/recipe.py", ELLS, *FEW]
    done = trainer(*arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    verdict = load(workdir / "verdict.json")
    assert [s["ell"] for s in verdict["settings"]] == [1, 2, 4]
    assert "SGD" in done.stdout
    # The same command once more trains nothing; with other data it is refused.
    before = files_of(workdir / "runs")
    assert "Finished before: 6" in trainer(*arguments, f"--workdir={workdir}").stderr
    assert files_of(workdir / "runs") == before
    everything = files_of(workdir)
    arguments[0] = f"--recipe={file}:make_other_data"
    done = trainer(*arguments, f"--workdir={workdir}")
    assert_refused(done, "same data", str(workdir))
    assert files_of(workdir) == everything


WRONG = {
    "no such file": (["{folder}/mine.py:make"], ["mine.py:make", "no file"]),
    "no function named": (["{file}"], ["FILE.py:FUNCTION", "{file}"]),
    "no such function": (["{file}:build_it"], ["build_it", "make_adam"]),
    "no function but a number": (["{file}:SETTING"], ["SETTING", "make_adam"]),
    "function that raises": (["{file}:fail"], ["fail()", "RuntimeError", "no data today"]),
    "returns something else": (["{file}:number"], ["number", "int"]),
    "optimizer by name": (["{file}:make_by_name"], ["optimizer='adam'"]),
    "seed is ignored": (["{file}:ignore_seed"], ["different initial weights for different seeds"]),
    "empty": ([""], ["recipe=''"]),
    "a whole config": (["{file}:make", "--config=configs/digits.py"], ["epochs=30.0", "recipe"]),
    "another length": (
        ["{file}:make", "--config=configs/recipe.py", "--config.epochs=3"],
        ["epochs"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_recipes(case, file, tmp_path):
    (recipe, *others), words = WRONG[case]
    names = {"file": file, "folder": file.parent}
    done = trainer(f"--recipe={recipe.format(**names)}", *others, f"--workdir={tmp_path / 'x'}")
    assert_refused(done, *[word.format(**names) for word in words])
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_executed(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package\n")
    done = trainer(f"--recipe={path}:make", f"--workdir={tmp_path / 'x'}")
    assert_refused(done, "broken.py", "no_such_package")
    assert not (tmp_path / "x").exists()
