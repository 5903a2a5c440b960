"""The folder of a study: refused to other configs, and the environment that it records."""

import contextlib
import copy
import math
import os
import sys
import tempfile
import types

import keras
import pytest

from keras_svag.engine.files import lock, records
from keras_svag.studies.base.result import Result, write_results
from keras_svag.studies.base.workdir import (
    MUTABLE_FIELDS,
    default_command,
    describe_process,
    differences,
    prepare_workdir,
)
from tests.studies.helpers import assert_refused, build, files_of, read_only, study_config

# Studies that a config writes down.


@pytest.fixture
def claimed(tmp_path):
    """A folder that the study of `study_config` has claimed."""
    prepare_workdir(tmp_path / "study", build(study_config()))
    return tmp_path / "study"


def test_new_folder_gets_the_resolved_config(tmp_path):
    study = build(study_config())
    workdir = tmp_path / "a" / "b"
    setting = prepare_workdir(workdir, study)
    config = records.read_sealed(workdir / "config.json")
    assert config == records.to_json({"study": "sde_validity", **study.config})
    assert records.read_sealed(workdir / "environment.json") == records.to_json(setting)
    assert {path.name for path in workdir.iterdir()} <= {".lock", "config.json", "environment.json"}


def test_same_config_is_welcome(claimed):
    before = files_of(claimed)
    prepare_workdir(str(claimed), build(copy.deepcopy(study_config())))
    assert files_of(claimed) == before


def test_grid_and_judgement_may_change(claimed):
    grown = {
        "num_seeds": 8,
        "max_num_seeds": 32,
        "num_workers": 2,
        "closeness": 2.0,
        "equilibrium": [0.5, 0.8],
        "sde_validity": {
            "batch_sizes": [8, 128],
            "criteria": {"train_loss": {"ratio": 1.2}},
            "ells": [1.0, 16.0],
            "max_ell": 64.0,
            "noise": "covariance",
        },
    }
    prepare_workdir(claimed, build(study_config(**grown)))
    config = records.read_sealed(claimed / "config.json")
    assert {name: config[name] for name in grown} == grown


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
def test_what_would_change_a_run_may_not(claimed, name, value):
    old = study_config()[name]
    assert_refused(claimed, build(study_config(**{name: value})), f"{name}: {old!r} -> {value!r}")


def test_nested_fields_and_other_studies(claimed):
    other = study_config()
    other["model"]["depth"] = 3
    assert_refused(claimed, build(other), "model.depth: 2 -> 3")
    scaling = build(study_config(), "linear_scaling")
    assert_refused(claimed, scaling, "study: 'sde_validity' -> 'linear_scaling'")


def test_differences_name_what_changed():
    old = {"a": 0.2, "model": {"depth": 2}, "num_records": 10}
    new = {"a": 0.1, "model": {"depth": 3}, "num_records": 11}
    assert differences(old, new) == [
        "a: 0.2 -> 0.1",
        "model.depth: 2 -> 3",
        "num_records: 10 -> 11",
    ]
    assert differences(old, old) == []
    assert differences({"a": 1}, {}) == ["a: 1 -> None"]
    assert differences({}, {"a": {"b": 1}}) == ["a: None -> {'b': 1}"]
    assert differences({"a": math.nan}, {"a": math.nan}) == []


def test_what_may_change_is_ignored_at_the_top_only():
    assert differences({}, dict.fromkeys(MUTABLE_FIELDS, "other")) == []
    assert differences({"model": {"num_seeds": 1}}, {"model": {"num_seeds": 2}}) == [
        "model.num_seeds: 1 -> 2"
    ]


def test_workdir_that_is_a_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ValueError, match="workdir.*a file"):
        build(study_config()).run(path, num_workers=1, show_progress=False)
    assert path.read_text() == "mine"


def test_other_backend_is_refused(claimed):
    path = claimed / "environment.json"
    setting = records.read_sealed(path)
    other = {"tensorflow": "jax", "jax": "tensorflow"}[setting["backend"]]
    records.write_sealed(path, setting | {"backend": other})
    assert_refused(claimed, build(study_config()), f"KERAS_BACKEND={other}", setting["backend"])


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_files_of_the_study(claimed, name):
    (claimed / name).write_text('{"seed"')
    before = files_of(claimed)
    with pytest.raises(ValueError, match=f"{name}.*damaged"):
        prepare_workdir(claimed, build(study_config()))
    assert files_of(claimed) == before


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("claimed_before", [False, True])
def test_read_only_workdir(claimed_before):
    study = build(study_config())
    # Not `tmp_path`, into which nobody else may look.
    with tempfile.TemporaryDirectory() as folder:
        if claimed_before:
            prepare_workdir(folder, study)
        before = files_of(folder)
        os.chmod(folder, 0o755)
        with read_only(folder):
            with pytest.raises(records.WriteError, match="Permission denied.*--workdir"):
                prepare_workdir(folder, study)
        assert files_of(folder) == before


def test_two_processes_cannot_claim_one_folder_for_two_configs(tmp_path, monkeypatch):
    # The other one claims it after this one has looked and before it writes.
    study, acquire = build(study_config()), lock.acquire

    @contextlib.contextmanager
    def late(path, wait, check):
        config = {"study": "sde_validity", **study.config, "epochs": 99.0}
        records.write_sealed(tmp_path / "config.json", config)
        with acquire(path, wait, check) as held:
            yield held

    monkeypatch.setattr(lock, "acquire", late)
    with pytest.raises(ValueError, match="epochs: 99.0 -> 2.0"):
        prepare_workdir(tmp_path, study)
    assert records.read_sealed(tmp_path / "config.json")["epochs"] == 99.0


# The environment.


def test_environment_has_versions_and_devices():
    got = describe_process(["python", "-m", "x"])
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


def test_what_was_measured_is_on_disk_before_the_figures_are_drawn(tmp_path, finished):
    def draw(calls):
        assert records.read_json(tmp_path / "verdict.json")["verdict"] == finished[1].verdict
        assert (tmp_path / "results.csv").read_text().startswith("name,batch_size")
        raise RuntimeError("no fonts")

    _, done = finished
    result = Result(done.study, tmp_path, done.details, done.table, done.environment)
    with pytest.raises(RuntimeError, match="no fonts"):
        write_results(result, draw)
    assert {path.name for path in tmp_path.iterdir()} == {"verdict.json", "results.csv"}
