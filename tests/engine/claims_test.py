"""Tests of keras_svag/engine/files/claims.py: how long it waits, and what fails without harm."""

import errno
import itertools

import pytest

from keras_svag.engine.files import claims, records, storage

fsspec = pytest.importorskip("fsspec", reason="remote folders need fsspec")


@pytest.fixture
def path():
    yield storage.to_path("memory://bucket/claims") / "lock"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def longest(monkeypatch):
    """Random numbers are the largest they may be."""
    monkeypatch.setattr(claims._random, "uniform", lambda low, high: high, raising=False)


def refuse(*_):
    raise OSError(errno.EIO, "the store is away")


def test_pauses_grow_up_to_five_seconds(path, monkeypatch, longest):
    pauses, ends = [], itertools.count()
    monkeypatch.setattr(claims.time, "sleep", pauses.append)

    def check():
        if next(ends) == 14:
            raise KeyboardInterrupt

    with claims.acquire(path) as held:
        assert held
        with pytest.raises(KeyboardInterrupt), claims.acquire(path, wait=True, check=check):
            pass
    assert pauses == [0.5 * n for n in (*range(1, 11), 10, 10, 10, 10)]


def test_who_was_refused_asks_again_after_five_seconds(path, monkeypatch, longest):
    now = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    assert not claims.was_refused(path)
    with claims.acquire(path) as held, claims.acquire(path) as other:
        assert held and not other
    assert claims.was_refused(path)
    now[0] += 4.9
    assert claims.was_refused(path)
    now[0] += 0.2
    assert not claims.was_refused(path)


def test_claim_that_cannot_be_written_names_the_lock(path, monkeypatch):
    monkeypatch.setattr(storage, "write", refuse)
    with pytest.raises(records.WriteError, match="lock` could not be written: the store is away"):
        with claims.acquire(path):
            pass


def test_claim_that_cannot_be_removed_is_left_to_become_stale(path, monkeypatch):
    with monkeypatch.context() as patch, claims.acquire(path) as held:
        assert held
        patch.setattr(storage, "remove", refuse)
    assert len(storage.find(path.parent, ".*")) == 1
