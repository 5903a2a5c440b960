"""A crash between any two file operations: the same command ends with the identical files."""

import pytest

from keras_svag.engine.files import storage
from tests.faults.quick_study import Pool, make_study, patch_studies, run_without_warning
from tests.faults.recorded_files import Disk, RecordingFiles, crashes


@pytest.fixture
def run(monkeypatch):
    patch_studies(monkeypatch)
    study = make_study()
    return lambda workdir: run_without_warning(study, workdir)


@pytest.fixture
def recorded(run, tmp_path, monkeypatch):
    """Files that the study leaves, and the operations that led to them."""
    layer = RecordingFiles(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "files", layer)
        layer.root.mkdir()
        return run(layer.root), layer.log


def assert_same_after(run, folder, operations, mode, expected):
    disk = Disk(operations, is_half=mode == "half")
    folder.mkdir()
    disk.restore(folder, mode)
    finished = {name.split("/")[1] for name in disk.files(mode) if name.endswith("/result.json")}
    left = run(folder)
    assert sorted(left) == sorted(expected), (len(operations), mode)
    different = [name for name in expected if left[name] != expected[name]]
    assert different == [], (len(operations), mode)
    assert not finished & set(Pool.trained), (len(operations), mode)


def test_layer_records_all_that_the_study_leaves(recorded):
    expected, operations = recorded
    assert Disk(operations).files("killed") == expected


def test_e13_what_is_finished_survives_a_power_cut(recorded):
    expected, operations = recorded
    survived = Disk(operations).files("power cut")
    lost = [name for name in expected if survived.get(name) != expected[name]]
    # Event logs are copies of the records, which checkpoints hold too.
    assert [name for name in lost if "tensorboard/" not in name] == []
    assert {"verdict.json", "looks.json", "results.csv", "report.html"} <= survived.keys()


def test_e13_crash_between_any_two_operations_of_a_few(run, recorded, tmp_path):
    expected, operations = recorded
    for number, (count, mode) in enumerate(list(crashes(operations))[::29]):
        assert_same_after(run, tmp_path / str(number), operations[:count], mode, expected)


@pytest.mark.slow
def test_e13_crash_between_any_two_operations(run, recorded, tmp_path):
    expected, operations = recorded
    moments = list(crashes(operations))
    for number, (count, mode) in enumerate(moments):
        assert_same_after(run, tmp_path / str(number), operations[:count], mode, expected)
    print(f"{len(operations)} operations, {len(moments)} crashes")
