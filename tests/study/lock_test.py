"""Tests of keras_svag/study/lock.py: one holder at a time, and none after its process ended."""

import errno
import multiprocessing
import os
import signal
import warnings

import pytest

from keras_svag.study import lock, records

fcntl = pytest.importorskip("fcntl")


def hold_until_killed(path, ready):
    with lock.hold(path) as held:
        ready.put(held)
        signal.pause()


def count_alone(path, counter, times):
    """Reads and writes a number in a file, which only one may do at a time."""
    for _ in range(times):
        with lock.hold(path, wait=True) as held:
            assert held
            value = int(counter.read_text())
            counter.write_text(str(value + 1))


def test_second_holder_is_told_and_the_file_goes(tmp_path):
    path = tmp_path / "run" / "lock"
    with lock.hold(path) as first:
        with lock.hold(path) as second:
            assert first and not second
        assert path.exists()  # the one who did not get it leaves it alone
        with lock.hold(path) as third:
            assert not third
    assert list(path.parent.iterdir()) == []
    with lock.hold(path) as again:
        assert again


def test_lock_dies_with_its_process(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    process = context.Process(target=hold_until_killed, args=(tmp_path / "lock", ready))
    process.start()
    assert ready.get(timeout=120)
    with lock.hold(tmp_path / "lock") as held:
        assert not held
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / "lock").exists()  # the file stays and does not matter
    with lock.hold(tmp_path / "lock") as held:
        assert held


def test_two_processes_never_hold_it_at_once(tmp_path):
    # Each holder removes the file while another may have it open: the race of such locks.
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "lock", counter, 300)
    processes = [context.Process(target=count_alone, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "900" and not (tmp_path / "lock").exists()


def test_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked .*No locks available.* Use --shard"):
        with lock.hold(tmp_path / "lock") as held:
            assert held


def test_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock.hold(tmp_path / "lock") as held:
            assert held


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(records.WriteError, match="could not be written.* Free some space, or use"):
        with lock.hold(tmp_path / "file" / "lock"):
            pass
