"""Tests of keras_svag/engine/files/lock.py: one holder at a time, none after its process ended."""

import errno
import multiprocessing
import os
import pathlib
import signal

import pytest

from keras_svag.engine.files import lock, records

fcntl = pytest.importorskip("fcntl")


def hold_until_killed(path, ready):
    with lock.acquire(path) as held:
        ready.put(held)
        signal.pause()


def count_alone(path, counter, times):
    """Reads and writes a number in a file, which only one may do at a time."""
    for _ in range(times):
        with lock.acquire(path, wait=True) as held:
            assert held
            value = int(counter.read_text())
            counter.write_text(str(value + 1))


def test_second_holder_is_told(tmp_path):
    path = tmp_path / "run" / "lock"
    with lock.acquire(path) as first:
        for _ in range(2):  # the one who did not get it takes nothing from the first
            with lock.acquire(path) as other:
                assert first and not other
    with lock.acquire(path) as again:
        assert again


def test_lock_dies_with_its_process(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    process = context.Process(target=hold_until_killed, args=(tmp_path / "lock", ready))
    process.start()
    assert ready.get(timeout=120)
    with lock.acquire(tmp_path / "lock") as held:
        assert not held
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with lock.acquire(tmp_path / "lock") as held:
        assert held


def test_processes_never_hold_it_at_once(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "lock", counter, 50)
    processes = [context.Process(target=count_alone, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "150"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks(tmp_path, monkeypatch, code):
    def refuse(file, how):
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="No locks available.*--shard"):
        with lock.acquire(tmp_path / "lock") as held:
            assert held


def test_one_warning_for_each_file_system(tmp_path, monkeypatch):
    devices, stat = {"a": 1, "b": 1, "c": 2}, pathlib.Path.stat

    def on_devices(path, **options):
        found = list(stat(path, **options))[:10]
        found[2] = devices.get(path.name, found[2])  # st_dev
        return os.stat_result(found)

    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(pathlib.Path, "stat", on_devices)
    monkeypatch.setattr(lock, "_warned", set())
    with pytest.warns(UserWarning, match="No locks available") as caught:
        for name in "abcab":
            with lock.acquire(tmp_path / name / "lock"):
                pass
    folders = [next(n for n in "abc" if f"/{n}`" in str(w.message)) for w in caught]
    assert folders == ["a", "c"]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(records.WriteError, match="could not be written"):
        with lock.acquire(tmp_path / "file" / "lock"):
            pass
