"""Tests of keras_svag/study/workdir.py: to whom a folder belongs."""

import copy
import math
import sys
import types

import keras
import pytest

from keras_svag.study import records
from keras_svag.study.config import validate_config
from keras_svag.study.workdir import claim, default_command, environment, finish
from tests.study.helpers import files_of, study_config


@pytest.fixture
def good():
    return validate_config(study_config())


def test_new_folder_gets_the_resolved_config(tmp_path, good):
    workdir = claim(tmp_path / "a" / "b", "sde_validity", good)
    assert workdir == tmp_path / "a" / "b"
    assert records.read_json(workdir / "config.json") == {"study": "sde_validity", **good}
    assert list(files_of(workdir)) == ["config.json"]


def test_same_config_is_welcome(tmp_path, good):
    claim(tmp_path, "sde_validity", good)
    before = files_of(tmp_path)
    claim(str(tmp_path), "sde_validity", copy.deepcopy(good))
    assert files_of(tmp_path) == before


def test_grid_and_judgement_may_change(tmp_path, good):
    claim(tmp_path, "sde_validity", good)
    grown = {
        **good,
        "num_seeds": 8,
        "max_num_seeds": 32,
        "num_workers": 2,
        "closeness": 2.0,
        "equilibrium": [0.5, 0.8],
        "sde_validity": {"batch_sizes": [8, 128], "ells": [1.0, 16.0]},
    }
    claim(tmp_path, "sde_validity", grown)
    assert records.read_json(tmp_path / "config.json") == {"study": "sde_validity", **grown}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.1),
        ("weight_decay", 0.0),
        ("epochs", 3.0),
        ("seed", 1),
        ("sampling", "without_replacement"),
        ("num_records", 11),
        ("num_checkpoints", 5),
        ("evaluation_size", 100),
        ("base_batch_size", 16),
    ],
)
def test_what_would_change_a_run_may_not(tmp_path, good, name, value):
    claim(tmp_path, "sde_validity", good)
    before = files_of(tmp_path)
    with pytest.raises(ValueError) as error:
        claim(tmp_path, "sde_validity", {**good, name: value})
    message = str(error.value)
    assert message.startswith("`workdir` must be new or belong to the same config")
    assert f"({name}: {good[name]!r} -> {value!r})" in message
    assert f"Received: workdir={str(tmp_path)!r}. Use another --workdir, or undo" in message
    assert files_of(tmp_path) == before


def test_nested_fields_and_other_studies(tmp_path, good):
    claim(tmp_path, "sde_validity", good)
    before = files_of(tmp_path)
    other = copy.deepcopy(good)
    other["model"]["depth"] = 3
    with pytest.raises(ValueError, match=r"\(model.depth: 2 -> 3\)"):
        claim(tmp_path, "sde_validity", other)
    with pytest.raises(ValueError, match="study: 'sde_validity' -> 'linear_scaling'"):
        claim(tmp_path, "linear_scaling", good)
    assert files_of(tmp_path) == before


def test_workdir_that_is_a_file(tmp_path, good):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ValueError, match="`workdir` must be a folder.*Received.*a file. Use an"):
        claim(path, "sde_validity", good)
    assert path.read_text() == "mine"


def test_environment_tells_versions_and_devices():
    got = environment(["python", "-m", "x"])
    assert got["command"] == ["python", "-m", "x"] and got["backend"] == keras.backend.backend()
    versions = set(got["versions"])
    assert {"python", "keras_svag", "keras", "numpy", "scipy", "scikit-learn"} <= versions
    assert any(name.startswith(keras.backend.backend()) for name in versions)
    assert got["devices"] and got["cpu_count"] >= 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (types.SimpleNamespace(name="trainers.x"), ["python", "-m", "trainers.x"]),
        (None, ["keras-svag-sde"]),
    ],
    ids=["module", "console script"],
)
def test_command_can_be_repeated(monkeypatch, spec, expected):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/keras-svag-sde", "--workdir=/tmp/a b"])
    assert default_command() == [*expected, "--workdir=/tmp/a b"]


def test_what_was_measured_is_on_disk_before_the_figures_are_drawn(tmp_path):
    def draw():
        assert records.read_json(tmp_path / "verdict.json") == {"study": "x", "value": None}
        assert (tmp_path / "results.csv").read_text() == "name,seed\na,0\n"
        raise RuntimeError("no fonts")

    with pytest.raises(RuntimeError, match="no fonts"):
        finish(
            tmp_path,
            {"study": "x", "value": math.inf},
            [{"name": "a", "seed": 0}],
            draw,
            study_config(),
            environment([]),
        )
    assert {path.name for path in tmp_path.iterdir()} == {"verdict.json", "results.csv"}
