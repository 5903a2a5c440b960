"""Tests of keras_svag/engine/files/checkpoints.py: the newest whole one is found, and no other."""

import errno
import pickle
import re

import numpy as np
import pytest

from keras_svag.engine.files import checkpoints, records, storage

GROUPS = ("model", "optimizer")


def state(value):
    # More than ten, so that "10" must not come before "2".
    model = [np.full(i + 1, value + i, "float32") for i in range(12)]
    return {"model": model, "optimizer": [np.array(2**40 + 1, "int64"), np.zeros((2, 3))]}


def assert_same_state(got, expected):
    for name in GROUPS:
        for a, b in zip(got[name], expected[name], strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_array_equal(a, b)


def test_content_comes_back_in_order_and_type(tmp_path):
    rows = [{"loss": 0.1 + 1e-17, "ratio": None}, {"loss": 1e-300}]
    checkpoints.save(tmp_path / "c", state(0), step=7, rows=rows)
    groups, facts = checkpoints.load(tmp_path / "c", GROUPS)
    assert facts == {"step": 7, "rows": rows}
    assert_same_state(groups, state(0))
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["latest.npz"]


def test_the_last_two_are_kept_and_one_at_the_end(tmp_path):
    assert checkpoints.load(tmp_path, GROUPS) is None
    for step in range(4):
        checkpoints.save(tmp_path, state(step), step=step)
    kept = {p.name: checkpoints.read(p, GROUPS)[1]["step"] for p in tmp_path.iterdir()}
    assert kept == {"latest.npz": 3, "previous.npz": 2}
    checkpoints.prune(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["latest.npz"]


def test_checkpoint_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    for step in range(2):
        checkpoints.save(tmp_path, state(step), step=step)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.files, "remove", refuse)
    with pytest.raises(
        records.ReadOnlyError, match=re.escape(f"`{tmp_path}` could not be written")
    ):
        checkpoints.prune(tmp_path)


def test_failure_while_writing_leaves_both(tmp_path, monkeypatch):
    for step in range(2):
        checkpoints.save(tmp_path, state(step), step=step)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(path, content):
        path.write_bytes(b"PK\x03\x04 half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.files, "write", full)
    with pytest.raises(records.WriteError, match="No space left.* Free some space"):
        checkpoints.save(tmp_path, state(2), step=2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_killed_between_the_two_renames(tmp_path):
    for step in range(2):
        checkpoints.save(tmp_path, state(step), step=step)
    (tmp_path / "latest.npz").replace(tmp_path / "previous.npz")
    assert checkpoints.load(tmp_path, GROUPS)[1] == {"step": 1}


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -500])
def test_truncated_checkpoint_gives_way_to_the_one_before(tmp_path, cut):
    for step in range(2):
        checkpoints.save(tmp_path, state(step), step=step)
    latest = tmp_path / "latest.npz"
    latest.write_bytes(latest.read_bytes()[:cut])
    with pytest.warns(UserWarning, match="latest.npz` is damaged .* previous checkpoint"):
        groups, facts = checkpoints.load(tmp_path, GROUPS)
    assert facts == {"step": 0}
    assert_same_state(groups, state(0))


def test_no_changed_byte_changes_what_is_read(tmp_path):
    # Of a few bytes nothing depends (times in the archive); all others must be noticed.
    checkpoints.save(tmp_path, state(0), step=0)
    path = tmp_path / "latest.npz"
    content = path.read_bytes()
    noticed, rng = 0, np.random.default_rng(0)
    places = rng.choice(len(content), size=600, replace=False)
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            groups, facts = checkpoints.read(path, GROUPS)
        except records.DamagedError:
            noticed += 1
        else:
            assert facts == {"step": 0}
            assert_same_state(groups, state(0))
    assert noticed > 0.5 * len(places)


def test_swapped_content_does_not_have_the_checksum(tmp_path):
    # Whole as an archive: what zip's own checksums cannot see.
    checkpoints.save(tmp_path, state(0), step=0)
    path = tmp_path / "latest.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["model/3"] = arrays["model/3"] + 1
    np.savez(path, **arrays)
    with pytest.raises(records.DamagedError, match="checksum"):
        checkpoints.read(path, GROUPS)


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["object array", "pickle"])
def test_nothing_is_executed(tmp_path, how):
    path, mark = tmp_path / "latest.npz", tmp_path / "executed"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark)))
    else:
        np.savez(path, **{"model/0": np.array([Trap(mark)], dtype=object)})
    with pytest.raises(records.DamagedError):
        checkpoints.read(path, GROUPS)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda s: s["model"].pop(), "array 11 of 'model' none instead of float32[12]"),
        (
            lambda s: s["optimizer"].append(np.ones(1)),
            "array 2 of 'optimizer' float64[1] instead of none",
        ),
        (
            lambda s: s["model"].__setitem__(2, np.ones(3)),
            "array 2 of 'model' float64[3] instead of",
        ),
    ],
    ids=["fewer", "more", "another type"],
)
def test_arrays_of_another_model_are_told(change, difference):
    other = state(0)
    change(other)
    with pytest.raises(checkpoints.CheckpointError) as error:
        checkpoints.check_state("x/latest.npz", other, state(0))
    assert difference in str(error.value) and "`x/latest.npz` must be" in str(error.value)
    checkpoints.check_state("x/latest.npz", state(1), state(0))
