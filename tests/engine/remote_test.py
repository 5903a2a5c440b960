"""Tests of keras_svag/engine/files/remote.py and claims.py, in fsspec's file system in memory."""

import pathlib
import pickle
import random
import sys
import threading
import time

import pytest

from keras_svag.engine import execution
from keras_svag.engine.files import claims, lock, records, remote, shared_folder, storage
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from tests.studies.helpers import files_of

fsspec = pytest.importorskip("fsspec", reason="remote folders need fsspec")


@pytest.fixture
def folder():
    yield storage.to_path("memory://bucket/some study")
    fsspec.filesystem("memory").store.clear()


def wait_for(condition, seconds=30):
    """Returns once a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def write_all(folder):
    """Writes some files; returns their content by name."""
    contents = {
        "a": b"1",
        "runs/x/result.json": b"{}",
        "runs/y/result.json": b"",
        "runs/y/.b": b"2",
    }
    for name, content in contents.items():
        storage.make_folder((folder / name).parent, parents=True)
        storage.write(folder / name, content)
    return contents


def test_e6_files_of_both_places_are_alike(folder, tmp_path):
    for place in (folder, tmp_path):
        contents = write_all(place)
        assert {name: storage.read(place / name) for name in contents} == contents
        assert storage.sizes(place) == {name: len(content) for name, content in contents.items()}
        assert storage.read(place / "none") is None
        found = storage.find(place, "runs/*/result.json")
        assert [path.parent.name for path in found] == ["x", "y"]
        assert storage.find(place / "none", "**/*") == [] == storage.find(place, "*/result.json")
        assert [path.name for path in storage.find(place, "**/.*")] == [".b"]
        assert storage.exists(place / "a") and not storage.exists(place / "none")
        assert storage.is_folder(place / "runs" / "x") and not storage.is_folder(place / "a")
        assert abs(storage.modified(place / "a") - time.time()) < 60
        storage.write(place / "a", b"new", backup=place / "old")
        storage.write(place / "b", b"first", backup=place / "old of b")
        assert (storage.read(place / "a"), storage.read(place / "old")) == (b"new", b"1")
        assert not storage.exists(place / "old of b")
        for _ in range(2):
            storage.append(place / "a", b"er")
        storage.sync(place / "a")
        assert storage.read(place / "a") == b"newerer"
        for _ in range(2):
            storage.remove(place / "a")
        assert storage.read(place / "a") is None


def test_e6_appended_bytes_appear_while_a_run_goes_on(folder, monkeypatch):
    storage.write(folder / "log", b"head")
    storage.append(folder / "log", b"1")
    assert storage.read(folder / "log") == b"head"
    late = time.monotonic() + 60
    monkeypatch.setattr(remote.time, "monotonic", lambda: late)
    storage.append(folder / "log", b"2")
    assert storage.read(folder / "log") == b"head12"
    # What an interrupted run appended is not added to the log that takes its place.
    storage.append(folder / "log", b"3")
    storage.write(folder / "log", b"")
    storage.sync(folder / "log")
    assert storage.read(folder / "log") == b""


@pytest.mark.parametrize("make", [str, pathlib.PurePosixPath, storage.to_path])
def test_e6_url_survives_being_a_path(make):
    path = storage.to_path(make("memory://bucket/a b")) / "c"
    assert str(path) == f"{path}" == "memory://bucket/a b/c"
    assert str(pickle.loads(pickle.dumps(path)).parent) == "memory://bucket/a b"


def test_e6_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert storage.to_path("~/study") == tmp_path / "study"
    with pytest.raises(ValueError, match="`workdir`.*Received: workdir='~nobody-of-this-name/x'"):
        storage.to_path("~nobody-of-this-name/x")


@pytest.mark.parametrize("name", ["C:/study", "a:b/c", "relative", "./gs:/x", "a//b"])
def test_local_names_stay_local(name):
    assert storage.to_path(name) == pathlib.Path(name)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", ["gs://", "s3://"]),
        ("file:///tmp/x", ["local folder"]),
        (pathlib.PurePosixPath("hdfs://x/y"), ["workdir='hdfs:/x/y'"]),
        ("memory://", ["bucket"]),
    ],
)
def test_e6_urls_that_are_refused(url, words):
    with pytest.raises(ValueError, match="`workdir` must") as error:
        storage.to_path(url)
    for word in ("Received: workdir=", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_e6_package_that_is_missing(monkeypatch, scheme, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs the package {package}.*keras-svag.remote."):
        storage.to_path(f"{scheme}://bucket/x")


def test_e6_store_that_cannot_be_reached(folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no credentials\nmore")

    for name in ("cat_file", "find", "info", "pipe_file"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), name, fail)
    for read in (storage.read, storage.exists, storage.sizes):
        with pytest.raises(remote.ReadError, match="could not be read: RuntimeError: no cred.*Ch"):
            read(folder)
    with pytest.raises(records.WriteError, match="could not be written: RuntimeError: no cred"):
        records.write_text(folder / "a", "text")


@pytest.mark.parametrize("is_chief", [True, False])
def test_e6_other_processes_get_a_copy(folder, monkeypatch, is_chief):
    contents = write_all(folder)
    monkeypatch.setattr(shared_folder, "num_processes", lambda: 2)
    monkeypatch.setattr(shared_folder, "gather", lambda value: [value, value])
    monkeypatch.setattr(shared_folder, "is_chief", lambda: is_chief)
    with shared_folder.process_workdir(str(folder)) as workdir:
        assert (workdir == str(folder)) == is_chief
        assert is_chief or files_of(workdir) == contents


def test_processes_that_see_other_files_are_refused(folder, monkeypatch):
    seen = []

    def gather(value):
        seen.append(value)
        return list(seen)

    write_all(folder)
    monkeypatch.setattr(shared_folder, "num_processes", lambda: 2)
    monkeypatch.setattr(shared_folder, "gather", gather)
    monkeypatch.setattr(shared_folder, "is_chief", lambda: True)
    for _ in range(2):
        with shared_folder.process_workdir(str(folder)):
            pass
    storage.write(folder / "a", b"longer")
    with pytest.raises(ValueError, match="same files on all processes. Received: workdir='memory"):
        with shared_folder.process_workdir(str(folder)):
            pass


def test_e6_claim_is_held_by_one(folder):
    with lock.acquire(folder / "lock") as first:
        for _ in range(2):
            with lock.acquire(folder / "lock") as other:
                assert first and not other
        with lock.acquire(folder / "other") as other:
            assert other
    with lock.acquire(folder / "lock", wait=True) as again:
        assert again
    assert storage.sizes(folder) == {}


def test_e6_threads_never_hold_it_at_once(folder, monkeypatch):
    monkeypatch.setattr(claims, "PAUSE_SECONDS", (0, 0.02))  # so that they meet often
    call, held = remote._call, []

    def slow_call(*arguments, **options):
        time.sleep(random.uniform(0, 0.001))  # another's turn
        return call(*arguments, **options)

    monkeypatch.setattr(remote, "_call", slow_call)
    counts = []

    def count():
        for _ in range(10):
            with lock.acquire(folder / "lock", wait=True):
                held.append(1)
                time.sleep(0.001)
                counts.append(len(held))
                held.pop()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 30
    assert storage.sizes(folder) == {}


def test_e6_claims_of_the_dead_do_not_hold(folder, monkeypatch):
    mine = storage.temporary_path(folder / "lock")
    machine, _, *rest = mine.name.removeprefix(".").split(".")
    ended = folder / ".".join(["", machine, str(2**22 + 1), *rest])
    elsewhere = folder / ".".join(["", "0" * 8, "1", *rest])
    storage.write(ended, b"")
    with lock.acquire(folder / "lock") as held:  # its process has ended
        assert held
    storage.write(elsewhere, b"")
    with lock.acquire(folder / "lock") as held:
        assert not held
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.05)
    time.sleep(0.1)
    with lock.acquire(folder / "lock") as held:  # not renewed
        assert held
    assert storage.sizes(folder) == {}


def test_e6_claim_is_renewed_while_it_is_held(folder, monkeypatch):
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.2)
    monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0.02)
    with lock.acquire(folder / "lock") as first:
        time.sleep(0.4)
        with lock.acquire(folder / "lock") as other:
            assert first and not other


def test_e6_process_that_stood_still_says_that_it_lost_its_claim(folder, monkeypatch):
    exists = storage.exists

    def take_over(claim):  # as another process does that finds the claim stale
        storage.remove(claim)
        return exists(claim)

    monkeypatch.setattr(storage, "exists", take_over)
    monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0.02)
    with pytest.warns(UserWarning, match="stood still for more than 120 s") as caught:
        with lock.acquire(folder / "lock") as held:
            assert held
            [claim] = storage.find(folder, ".*")
            wait_for(lambda: not exists(claim))
            time.sleep(0.1)  # five more turns, if it went on
            assert storage.sizes(folder) == {}  # not claimed again
    assert [str(folder) in str(warning.message) for warning in caught] == [True]  # once


def test_who_waits_for_a_run_asks_the_store_rarely(folder, monkeypatch):
    spec, recording = RunSpec(8, 0.1, 1.0, 0, 4), Recording(num_records=1, checkpoint_steps=1)
    call, requests = remote._call, []

    def count(*arguments, **options):
        requests.append(arguments)
        return call(*arguments, **options)

    monkeypatch.setattr(remote, "_call", count)
    with lock.acquire(RunFolder(folder, spec.name).lock) as held:
        assert held
        for _ in range(10):
            before = len(requests)
            result = execution.execute(spec, None, recording, folder)
            assert result == {"status": execution.LOCKED}
        assert 0 < before == len(requests)  # those of the first time
    monkeypatch.setattr(claims, "REFUSED_SECONDS", 0)
    with pytest.raises(TypeError):  # asks for its program
        execution.execute(spec, None, recording, folder)


@pytest.mark.parametrize("is_remote", [True, False])
def test_signals_end_the_wait_for_a_lock(folder, tmp_path, is_remote):
    path = (folder if is_remote else tmp_path) / "lock"
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with lock.acquire(path) as held:
        with pytest.raises(KeyboardInterrupt), lock.acquire(path, wait=True, check=check):
            pass
        assert held
    with lock.acquire(path, wait=True) as held:
        assert held
