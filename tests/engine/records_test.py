"""Tests of keras_svag/engine/files/records.py: files are whole or not there."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from keras_svag.engine.files import records
from keras_svag.theory import Interval


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "verdict.json"
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
        records.write_jsonl(tmp_path / "a.jsonl", [{"step": 1}])
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


def test_replaced_file_becomes_the_backup(tmp_path):
    for text in ("1", "2", "3"):
        with records.atomic_path(tmp_path / "a.txt", tmp_path / "b.txt") as temporary:
            temporary.write_text(text)
            # The newest stays where it is until the next one is whole.
            if text != "1":
                assert (tmp_path / "a.txt").read_text() == str(int(text) - 1)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "3", "b.txt": "2"}


DAMAGED = {
    "cut short": b'{"step": 1}\n{"step": 2, "lo',
    "a line that is no object": b'{"step": 1}\n7\n',
    "not text": b"\xff\xfe\x00",
    "zeros, as after a crash of the machine": b"\0" * 20,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_lines_are_told_and_left_alone(tmp_path, case):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(DAMAGED[case])
    with pytest.raises(records.DamagedError, match="metrics.jsonl` is damaged: .* move it away"):
        records.read_jsonl(path)
    assert path.read_bytes() == DAMAGED[case]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff"])
def test_damaged_json_is_told(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(records.DamagedError, match="a.json` is damaged: .* move it away"):
        records.read_json(tmp_path / "a.json")


def test_what_killed_processes_were_writing_is_removed(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    records.write_json(tmp_path / "runs" / "a" / "result.json", {})
    left = tmp_path / "runs" / "a" / f".12.ab{records.TEMPORARY}result.json"
    left.write_text("half")
    records.remove_temporaries(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["result.json"]
