"""Tests of keras_svag/engine/files/records.py: files are whole or not there."""

import dataclasses
import errno
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_svag.engine.files import records, storage, tensorboard
from keras_svag.engine.files.tensorboard import EventLog
from keras_svag.theory import Interval
from tests.trainers.command import ROOT


@pytest.mark.parametrize("operation", ["write", "sync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, operation):
    path = tmp_path / "verdict.json"
    records.write_json(path, {"verdict": "valid"})
    succeed = getattr(storage.files, operation)

    def fail(target, *arguments):
        if operation == "write":  # half of it
            succeed(target, arguments[0][:5])
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(storage.files, operation, fail)
    with pytest.raises(records.WriteError, match="verdict.json.*No space left"):
        records.write_json(path, {"verdict": "invalid"})
    assert [p.name for p in path.parent.iterdir()] == ["verdict.json"]
    assert records.read_json(path) == {"verdict": "valid"}


def test_readers_never_see_a_half_written_file(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.txt", []
    records.write_text(path, "old")
    for name in ("sync", "replace"):
        act = getattr(storage.files, name)

        def look(*arguments, act=act):
            seen.append(path.read_text())
            act(*arguments)

        monkeypatch.setattr(storage.files, name, look)
    records.write_text(path, "new")
    assert seen == ["old", "old"] and path.read_text() == "new"


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
    for text in (b"1", b"2", b"3"):
        records.write_bytes(tmp_path / "a.txt", text, backup=tmp_path / "b.txt")
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


def leave_temporary(folder, process):
    """Has a process die in the middle of a write; returns its file."""
    code = (
        "import os, sys, time; from keras_svag.engine.files import storage\n"
        "storage.files.replace = lambda *_: print('now', flush=True) or time.sleep(600)\n"
        f"storage.write({str(folder / 'result.json')!r}, b'half')"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout.readline() == b"now\n"
    process.append(child)
    [left] = [path for path in folder.iterdir() if storage.TEMPORARY in path.name]
    return left


def test_e4_e9_only_what_killed_processes_were_writing_is_removed(tmp_path):
    processes = []
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    left = leave_temporary(folder, processes)
    try:
        storage.remove_temporaries(tmp_path)
        assert left.exists()  # its process may go on
    finally:
        processes[0].kill()
        processes[0].communicate()
    # Of another machine: nobody knows, until it is old.
    foreign = left.with_name(f".00000000{left.name[9:]}")
    foreign.write_text("half")
    an_hour_ago = time.time() - 3600
    os.utime(foreign, (an_hour_ago, an_hour_ago))
    storage.remove_temporaries(tmp_path)
    assert not left.exists() and foreign.exists()
    two_days_ago = time.time() - 2 * storage.ABANDONED_SECONDS
    os.utime(foreign, (two_days_ago, two_days_ago))
    storage.remove_temporaries(tmp_path)
    assert list(folder.iterdir()) == []


def of_another(part, monkeypatch):
    """Reads the files of this machine as after another start, or in another container."""
    if part == "start":
        text = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()[::-1]
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
    else:
        monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    storage._machine.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name neither")
@pytest.mark.parametrize("part", ["start", "container"])
def test_processes_of_another_start_or_container_are_strangers(tmp_path, monkeypatch, part):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()  # its number is of no process now
    mine = storage.temporary_path(tmp_path / "a").name
    path = tmp_path / mine.replace(f".{os.getpid()}.", f".{child.pid}.")
    assert storage.has_ended(path) and not storage.has_ended(tmp_path / mine)
    try:
        with monkeypatch.context() as patch:
            of_another(part, patch)
            assert not storage.has_ended(path)
    finally:
        storage._machine.cache_clear()
    assert storage.has_ended(path)


def test_json_is_laid_out_for_people(tmp_path):
    records.write_json(tmp_path / "a.json", {"x": [1, math.nan], "y": "z"})
    assert (tmp_path / "a.json").read_text().splitlines()[:2] == ["{", '  "x": [']
    assert records.read_json(tmp_path / "a.json") == {"x": [1, None], "y": "z"}


@pytest.mark.parametrize("old", [None, "{", '{"a": [1]}'], ids=["none", "damaged", "another"])
def test_updated_file_has_the_value_and_the_date_of_its_first_writing(tmp_path, old):
    path, value = tmp_path / "a.json", {"a": (1, np.float64(2.5))}
    if old is not None:
        path.write_text(old)
    records.update_json(path, value)
    assert records.read_json(path) == {"a": [1, 2.5]}
    os.utime(path, (1e9, 1e9))
    records.update_json(path, value)
    assert path.stat().st_mtime == 1e9


def test_folder_with_those_above_it(tmp_path):
    with pytest.raises(records.WriteError, match="moved or deleted"):
        records.make_folder(tmp_path / "a" / "b")
    records.make_folder(tmp_path / "a" / "b", parents=True)
    records.make_folder(tmp_path / "a" / "b")  # is there
    assert (tmp_path / "a" / "b").is_dir()


def test_sealed_file_comes_back_or_is_damaged(tmp_path):
    path = tmp_path / "config.json"
    content = {"a": 1.5, "b": {"c": [1, None]}}
    records.write_sealed(path, content)
    assert records.read_sealed(path) == content
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            assert records.read_sealed(path) == content  # a blank elsewhere
        except records.DamagedError as error:
            assert "config.json` is damaged" in str(error)
    records.write_json(path, content)  # without a digest
    with pytest.raises(records.DamagedError, match="config.json"):
        records.read_sealed(path)


@pytest.mark.parametrize("operation", ["append", "sync"])
def test_event_log_that_cannot_be_written_is_named(tmp_path, monkeypatch, operation):
    pytest.importorskip("tensorboard")
    log = EventLog(tmp_path)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.files, operation, refuse)
    with pytest.raises(records.WriteError, match="tfevents.*` could not be written: No space"):
        log.append(
            {"effective_step": 1, "train_loss": 0.5}
        ) if operation == "append" else log.sync()


def test_event_log_has_what_was_measured_and_no_gaps(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    row = {"effective_step": 3, "step": 6, "loss": 0.5, "gap": None, "overflow": math.inf}
    EventLog(tmp_path, [row]).append({**row, "effective_step": 5, "loss": 0.25})
    [path] = tmp_path.iterdir()
    events = [event for event in loader.EventFileLoader(str(path)).Load() if event.summary.value]
    found = [(e.step, v.tag, v.tensor.float_val[0]) for e in events for v in e.summary.value]
    assert found == [(3, "loss", 0.5), (5, "loss", 0.25)]


def test_images_have_their_size_and_no_date(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    png = b"\x89PNG" + bytes(12) + (300).to_bytes(4, "big") + (2000).to_bytes(4, "big") + b"rest"
    tensorboard.write_images(tmp_path, {"R": png})
    [path] = tmp_path.iterdir()
    [event] = [e for e in loader.EventFileLoader(str(path)).Load() if e.summary.value]
    [value] = event.summary.value
    assert (value.tag, event.step, event.wall_time) == ("R", 0, 0)
    assert list(value.tensor.string_val) == [b"300", b"2000", png]
