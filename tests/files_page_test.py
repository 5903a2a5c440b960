"""docs/files.md names every file of a study, every column and every key."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_svag

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "files.md").read_text("utf-8")
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*/*.json"))


def names_in(title):
    """What stands as code in a section."""
    section = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", section[1]))


@pytest.mark.parametrize(
    "title, place",
    [
        ("metrics.jsonl", r"runs/[^/]+/metrics\.jsonl/(\w+)"),
        ("result.json", r"runs/[^/]+/result\.json/(\w+)"),
        ("verdict.json", r"verdict\.json/(\w+)"),
    ],
)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_columns_and_keys(path, title, place):
    found = [re.match(place, key) for key in json.loads(path.read_text("utf-8"))]
    names = {match[1] for match in found if match}
    assert names <= names_in(title)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_columns_of_the_table(path):
    columns = json.loads(path.read_text("utf-8")).get("results.csv/columns", [])
    assert set(columns) <= names_in("results.csv")


def files_of(recipe, workdir):
    study = keras_svag.studies.SDEValidity(recipe, ells=(1, 2, 4), max_ell=4, num_seeds=2)
    study.run(workdir, num_workers=1, show_progress=False)
    keras_svag.studies.Training(recipe).run(workdir / "single", show_progress=False)
    return [path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file()]


def test_files(tmp_path):
    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    x = np.random.default_rng(0).normal(size=(64, 4))
    sgd = keras.optimizers.SGD(0.1, momentum=0.9)
    recipe = keras_svag.Recipe(build, (x, x[:, :1]), sgd, "mse", batch_size=8, epochs=2)
    named = names_in("The folder") | names_in("A run")
    # `figures/` and `runs/<name>/` stand for what is in them.
    for file in files_of(recipe, tmp_path):
        file = re.sub(r"^single/", "", file.as_posix())
        in_run = re.sub(r"^runs/[^/]+/", "", file)
        assert {file, in_run, f"{in_run.partition('/')[0]}/"} & named, file
    rows = (tmp_path / "single/runs/b8_ell1_seed0/metrics.jsonl").read_text("utf-8").splitlines()
    # No golden study has momentum.
    assert "velocity_norm" in json.loads(rows[0])
    assert set(json.loads(rows[0])) <= names_in("metrics.jsonl")
