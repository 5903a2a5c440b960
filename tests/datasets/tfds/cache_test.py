"""Tests of keras_svag/datasets/tfds/cache.py: what is read is what was written, or an error."""

import json
import os
import threading

import numpy as np
import pytest

from keras_svag.datasets.tfds import cache
from keras_svag.datasets.tfds.cache import (
    ARRAYS,
    holds_arrays,
    read_arrays,
    read_meta,
    write_arrays,
)

SOURCE = {"version": "1.2.3"}


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(256, size=(30, 4, 4, 3), dtype=np.uint8)
    y = rng.integers(5, size=30, dtype=np.int32)
    return [x, y, x[:7], y[:7]]


def assert_equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def names(folder):
    return sorted(os.listdir(folder))


def test_round_trip(tmp_path):
    folder = tmp_path / "below" / "it"
    assert not holds_arrays(folder)
    write_arrays(folder, "made_up", arrays(), SOURCE, 5)
    assert holds_arrays(folder) and read_meta(folder)["source"] == SOURCE
    assert read_meta(folder)["num_classes"] == 5
    got = read_arrays(folder, "made_up")
    assert_equal(got, arrays())
    assert names(folder) == sorted(["meta.json", *(f"{name}.npy" for name in ARRAYS)])
    assert names(folder.parent) == ["it"]
    # Mapped, so that processes share it; plain arrays, which nobody can write to.
    assert all(type(a) is np.ndarray and isinstance(a.base, np.memmap) for a in got)
    with pytest.raises(ValueError, match="read-only"):
        got[0][0] = 0
    # The files are NumPy's own.
    np.testing.assert_array_equal(np.load(folder / "test_y.npy"), arrays()[3])


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def change(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = [
    ("train_x.npy", cut, "train_x.npy: checksum"),
    ("train_x.npy", change, "train_x.npy: checksum"),
    ("test_y.npy", os.unlink, "test_y.npy: .*No such file"),
    ("meta.json", cut, None),  # the newline at the end
    ("meta.json", lambda path: path.write_text("{"), "meta.json cannot be read"),
    ("meta.json", lambda path: path.write_text("[]"), "meta.json cannot be read"),
    ("meta.json", lambda path: path.write_text('{"name": "made_up"}'), "meta.json cannot be read"),
    ("meta.json", os.unlink, "meta.json cannot be read"),
]


@pytest.mark.parametrize(("file", "damage", "message"), DAMAGES)
def test_damage_is_noticed_and_mended_by_writing_anew(tmp_path, file, damage, message):
    folder = tmp_path / "cached"
    write_arrays(folder, "made_up", arrays(), SOURCE, 5)
    damage(folder / file)
    if message:
        with pytest.raises(ValueError, match=f"are damaged: {message}.*Delete the folder, or copy"):
            read_arrays(folder, "made_up")
    write_arrays(folder, "made_up", arrays(), SOURCE, 5)
    assert_equal(read_arrays(folder, "made_up"), arrays())
    assert names(tmp_path) == ["cached"]


def test_pickles_are_not_read(tmp_path):
    write_arrays(tmp_path / "cached", "made_up", arrays(), SOURCE, 5)
    path = tmp_path / "cached" / "train_y.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    meta = json.loads((tmp_path / "cached" / "meta.json").read_text())
    meta["arrays"]["train_y"]["sha256"] = cache._digest(path)
    (tmp_path / "cached" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="train_y.npy: .*"):
        read_arrays(tmp_path / "cached", "made_up")


def test_another_data_set_is_refused(tmp_path):
    write_arrays(tmp_path / "cached", "made_up", arrays(), SOURCE, 5)
    with pytest.raises(ValueError, match="data set 'cifar10'. Received: .*with those of 'made_up'"):
        read_arrays(tmp_path / "cached", "cifar10")


def test_another_source_replaces_what_is_there_while_it_is_read(tmp_path):
    folder = tmp_path / "cached"
    write_arrays(folder, "made_up", arrays(0), SOURCE, 5)
    before = read_arrays(folder, "made_up")
    # With the same source what is there stays.
    write_arrays(folder, "made_up", arrays(1), SOURCE, 5)
    assert_equal(read_arrays(folder, "made_up"), arrays(0))
    write_arrays(folder, "made_up", arrays(1), {"version": "1.2.4"}, 5)
    assert_equal(read_arrays(folder, "made_up"), arrays(1))
    assert_equal(before, arrays(0))
    assert names(tmp_path) == ["cached"]


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_arrays(tmp_path / "cached", "made_up", arrays(), SOURCE, 5)
    assert names(tmp_path) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_writers_at_once(tmp_path, damaged):
    # Whatever the order: each writer finds its arrays (the same for all) and nothing is left over.
    folder, start, failures = tmp_path / "cached", threading.Barrier(6), []

    def write():
        try:
            start.wait()
            write_arrays(folder, "made_up", arrays(), SOURCE, 5)
        except Exception as error:
            failures.append(error)

    for _ in range(5):
        if damaged and folder.exists():
            cut(folder / "train_x.npy")
        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert_equal(read_arrays(folder, "made_up"), arrays())
        assert names(tmp_path) == ["cached"]
