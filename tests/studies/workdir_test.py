"""Tests of keras_svag/study/workdir.py: to whom a folder belongs."""

import contextlib
import copy
import math
import os
import sys
import tempfile
import types

import keras
import pytest

from keras_svag.datasets import digits
from keras_svag.study import lock, records
from keras_svag.study.config import validate_config
from keras_svag.study.workdir import begin, claim, default_command, environment, finish
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


@pytest.fixture
def begun(tmp_path, good):
    """A folder that a study has begun, and its data."""
    data = digits()
    begin(tmp_path, "sde_validity", good, data)
    return tmp_path, data


def test_other_backend_is_refused(begun, good):
    workdir, data = begun
    path = workdir / "environment.json"
    environment_before = records.read_json(path)
    backend = environment_before["backend"]
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend]
    begin(workdir, "sde_validity", good, data)  # the same is welcome
    records.write_json(path, environment_before | {"backend": other})
    before = files_of(workdir)
    with pytest.raises(ValueError) as error:
        begin(workdir, "sde_validity", good, data)
    assert str(error.value) == (
        "`workdir` must be new or belong to the same Keras backend, since a seed gives other "
        f"initial weights on each: its runs were made under {other!r}. Received: "
        f"workdir={str(workdir)!r} under {backend!r}. Use another --workdir, or set "
        f"KERAS_BACKEND={other}."
    )
    assert files_of(workdir) == before


def test_other_data_are_refused(begun, good):
    workdir, data = begun
    before = files_of(workdir)
    with pytest.raises(ValueError, match="belong to the same data: .* Use another --workdir"):
        begin(workdir, "sde_validity", good, data.subset(num_train=100))
    assert files_of(workdir) == before


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_files_of_the_study(begun, good, name):
    workdir, data = begun
    (workdir / name).write_text('{"seed"')
    before = files_of(workdir)
    with pytest.raises(ValueError, match=f"{name}` is damaged: .* move it away"):
        begin(workdir, "sde_validity", good, data)
    assert files_of(workdir) == before


@contextlib.contextmanager
def read_only(folder):
    """A folder that this process may not write to, also where it runs as root."""
    os.chmod(folder, 0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # nobody
        yield
    finally:
        os.seteuid(user)
        os.chmod(folder, 0o755)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("begun_before", [False, True])
def test_read_only_workdir(good, begun_before):
    data = digits()
    # Not `tmp_path`, into which nobody else may look.
    with tempfile.TemporaryDirectory() as folder:
        if begun_before:
            begin(folder, "sde_validity", good, data)
        before = files_of(folder)
        os.chmod(folder, 0o755)
        with read_only(folder):
            with pytest.raises(records.WriteError) as error:
                begin(folder, "sde_validity", good, data)
        assert "could not be written: Permission denied" in str(error.value)
        assert "use a --workdir that you may write to" in str(error.value)
        assert files_of(folder) == before


def test_two_processes_cannot_claim_one_folder_for_two_configs(tmp_path, good, monkeypatch):
    # The other one claims it after this one has looked and before it writes.
    hold = lock.hold

    @contextlib.contextmanager
    def late(path, wait):
        records.write_json(
            tmp_path / "config.json", {"study": "sde_validity", **good, "epochs": 99.0}
        )
        with hold(path, wait) as held:
            yield held

    monkeypatch.setattr(lock, "hold", late)
    with pytest.raises(ValueError, match=r"same config: .*epochs: 99.0 -> 2.0"):
        claim(tmp_path, "sde_validity", good)
    assert records.read_json(tmp_path / "config.json")["epochs"] == 99.0


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
