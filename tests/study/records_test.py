"""Tests of keras_svag/study/records.py: files are whole or not there."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from keras_svag.study import records
from keras_svag.validity import Interval


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "verdict.json"
    records.write_json(path, {"verdict": "valid"})
    with pytest.raises(RuntimeError, match="disk full"):
        with records.atomic_path(path) as temporary:
            temporary.write_text('{"verdict": "inv')
            raise RuntimeError("disk full")
    assert [p.name for p in path.parent.iterdir()] == ["verdict.json"]
    assert records.read_json(path) == {"verdict": "valid"}


def test_readers_never_see_a_half_written_file(tmp_path):
    path = tmp_path / "a.txt"
    records.write_text(path, "old")
    with records.atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == path.parent
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_files_have_ordinary_permissions(tmp_path):
    # A report is there to be shared; temporary files of Python's tempfile are for the owner only.
    old = os.umask(0o022)
    try:
        records.write_text(tmp_path / "report.html", "<p>")
        records.save_arrays(tmp_path / "a.npz", {"model": [np.ones(2)]})
    finally:
        os.umask(old)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o644}


def test_json_of_numpy_tuples_and_intervals(tmp_path):
    value = {
        1: np.int64(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "t": (1, [np.float64(2.0)]),
        "nan": math.nan,
        "inf": np.float64(math.inf),
        "none": None,
        "s": "text",
        "interval": Interval(1.0, -math.inf, np.float64(2.0)),
    }
    records.write_json(tmp_path / "a.json", value)
    assert records.read_json(tmp_path / "a.json") == {
        "1": 3,
        "f": 0.5,
        "b": True,
        "t": [1, [2.0]],
        "nan": None,
        "inf": None,
        "none": None,
        "s": "text",
        "interval": {"mean": 1.0, "ci_low": None, "ci_high": 2.0},
    }
    assert dataclasses.is_dataclass(value["interval"])  # the input is left alone


def test_missing_files(tmp_path):
    assert records.read_json(tmp_path / "no.json") is None
    assert records.read_jsonl(tmp_path / "no.jsonl") == []
    assert records.load_arrays(tmp_path / "no.npz", ["model"]) is None


def test_jsonl_comes_back_exactly(tmp_path):
    # Floats survive to the last bit: what a resumed run writes again must be the same bytes.
    rng = np.random.default_rng(0)
    losses = rng.normal(size=50).tolist()
    rows = [{"step": i, "loss": v, "ratio": math.inf} for i, v in enumerate(losses)]
    path = tmp_path / "metrics.jsonl"
    records.write_jsonl(path, rows)
    lines = path.read_text().splitlines()
    assert len(lines) == 50 and all(type(json.loads(line)) is dict for line in lines)
    back = records.read_jsonl(path)
    assert back == [{**row, "ratio": None} for row in rows]
    before = path.read_bytes()
    records.write_jsonl(path, back)
    assert path.read_bytes() == before


def test_arrays_come_back_in_order_and_type(tmp_path):
    # More than ten, so that "10" must not come before "2".
    model = [np.full(i + 1, i, "float32") for i in range(12)]
    optimizer = [np.array(2**40 + 1, "int64"), np.zeros((2, 3), "float64")]
    path = tmp_path / "checkpoint" / "latest.npz"
    records.save_arrays(path, {"model": model, "optimizer": optimizer}, num_rows=7)
    groups, numbers = records.load_arrays(path, ["model", "optimizer"])
    assert numbers == {"num_rows": 7}
    for got, expected in zip(groups["model"] + groups["optimizer"], model + optimizer, strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert [p.name for p in path.parent.iterdir()] == ["latest.npz"]


def test_arrays_are_read_without_executing_anything(tmp_path):
    # A pickle in a checkpoint would run code of whoever made the file.
    np.savez(tmp_path / "bad.npz", **{"model/0": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        records.load_arrays(tmp_path / "bad.npz", ["model"])
