"""Tests of keras_svag/engine/processes: runs side by side are the runs one after the other."""

import copy
import functools
import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import signal
import sys
import threading
import time

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine import execution
from keras_svag.engine.files import lock, records
from keras_svag.engine.processes import pool, worker
from keras_svag.engine.processes.handle import WorkerProcess
from keras_svag.engine.processes.pool import RunPool, default_num_workers
from keras_svag.engine.processes.worker import Outcome
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from tests.engine.helpers import assert_same_end
from tests.faults.processes import is_running, num_descriptors
from tests.studies.helpers import run_study, study_config


def ignore(spec, steps):
    pass


def finished_in_order(workdir):
    """Names of the runs that have a result, in the order in which they got it."""
    paths = sorted(workdir.glob("runs/*/result.json"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in paths]


def test_two_workers_record_what_one_does(finished, tmp_path):
    # On two cores the records are the same to the byte. Elsewhere TensorFlow may cut a matrix
    # product among its threads (one in a worker, one a core in this process) and so add in
    # another order; 1e-7 a step grew to 1e-6 over a run in the test against float64.
    expected, expected_result = finished
    result = run_study(study_config(num_workers=2), "sde_validity", tmp_path)
    assert result.details["failed_runs"] == {}
    names = {path.name for path in (expected / "runs").iterdir()}
    assert len(names) == 8 and {path.name for path in (tmp_path / "runs").iterdir()} == names
    for name in names:
        got = records.read_jsonl(tmp_path / "runs" / name / "metrics.jsonl")
        wanted = records.read_jsonl(expected / "runs" / name / "metrics.jsonl")
        assert len(got) == len(wanted) == 10
        for a, b in zip(got, wanted):
            assert a.keys() == b.keys()
            for column in a:
                accuracy = column.endswith("accuracy")
                close = {"abs": 1.5 / 256} if accuracy else {"rel": 2e-5}
                assert a[column] == pytest.approx(b[column], **close), (name, column)
    assert result.verdict == expected_result.verdict


def test_one_worker_takes_long_runs_first(recipe, recording, tmp_path):
    grid = [RunSpec(128, 3.2, ell, seed, 22) for ell in (1.0, 4.0) for seed in (0, 1)]
    steps = dict.fromkeys(grid, 0)

    def on_steps(spec, count):
        steps[spec] += count

    with RunPool(recipe, recording, tmp_path, num_workers=1) as workers:
        results = workers.execute(grid, on_steps)
        assert steps == {spec: 22 * spec.ell for spec in grid}
        assert {name: result["status"] for name, result in results.items()} == {
            spec.name: execution.DONE for spec in grid
        }
        ells = [name.split("_")[1] for name in finished_in_order(tmp_path)]
        assert ells == ["ell4", "ell4", "ell1", "ell1"]
        workers.call_all([functools.partial(note_process, tmp_path / "note")])
        assert read_note(tmp_path / "note")[0] == os.getpid()
    # Once more: nothing is left to do.
    before = finished_in_order(tmp_path)
    with RunPool(recipe, recording, tmp_path, num_workers=1) as workers:
        assert workers.execute(grid, ignore) == results
    assert finished_in_order(tmp_path) == before


def fail_to_write():
    raise records.WriteError("no room")


def note_process(path):
    path.write_text(f"{os.getpid()} {type(multiprocessing.current_process()).__name__}")


def read_note(path):
    number, kind = path.read_text().split()
    return int(number), kind


def test_one_worker_a_core_but_one_process_for_an_accelerator(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert default_num_workers() == cores
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert default_num_workers() == 1


@pytest.mark.parametrize("num_workers", [1, 2])
def test_run_of_another_process_comes_after_all_others(recipe, recording, tmp_path, num_workers):
    grid = [RunSpec(128, 3.2, 1.0, seed, 22) for seed in range(3)]
    left = sum(spec.steps for spec in grid[1:])
    other = lock.acquire(RunFolder(tmp_path, grid[0].name).lock)
    assert other.__enter__()

    def on_steps(spec, count):
        # The other process lets go of its run, which it has not finished, at the end.
        nonlocal left
        left -= count
        if left == 0:
            other.__exit__(None, None, None)

    with RunPool(recipe, recording, tmp_path, num_workers) as workers:
        results = workers.execute(grid, on_steps)
    assert {result["status"] for result in results.values()} == {execution.DONE}
    assert len(results) == 3 and left == -grid[0].steps
    assert finished_in_order(tmp_path)[-1] == grid[0].name


def test_workers_end_after_a_checkpoint_if_this_process_fails(recipe, recording, tmp_path):
    long = RunSpec(128, 3.2, 256.0, 0, 22)

    def fail(spec, count):
        if count:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with RunPool(recipe, recording, tmp_path, num_workers=2) as workers:
            workers.execute([long], fail)
    folder = RunFolder(tmp_path, long.name)
    assert folder.checkpoint.exists() and not folder.result.exists()


SLEEPER = """
import time

def serve(*arguments):
    time.sleep(60)
"""


@pytest.fixture
def sleepers(tmp_path, monkeypatch):
    """Processes that import nothing stand for workers."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(worker, "serve", importlib.import_module("sleeper").serve)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.usefixtures("sleepers")
def test_e11_descriptors_of_64_workers(recipe, recording, tmp_path, monkeypatch, method):
    monkeypatch.setattr(pool, "_start_method", lambda: method)
    count = 8
    before = num_descriptors()
    with RunPool(recipe, recording, tmp_path, count):
        each = (num_descriptors() - before) / count
        if method == "forkserver":
            server = multiprocessing.forkserver._forkserver._forkserver_pid
            assert num_descriptors(server) + 2 * (64 - count) < 1024 / 2
    assert before + 64 * each < 1024 / 2  # room for data, figures and libraries
    assert num_descriptors() <= before + 4  # of the processes that multiprocessing keeps


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux alone")
@pytest.mark.usefixtures("sleepers")
def test_e10_idle_workers_end_after_their_fork_server(recipe, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_start_method", lambda: "forkserver")
    with RunPool(recipe, recording, tmp_path, 2) as workers:
        pids = [process._process.pid for process in workers._workers]
        os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        while multiprocessing.active_children():  # taken for dead
            time.sleep(0.01)
        assert all(is_running(pid) for pid in pids)
        # The next one comes from a new server.
        workers._workers.append(WorkerProcess(workers._start))
        started = time.monotonic()
    assert time.monotonic() - started < 30  # they sleep longer
    # Killed, but nobody's children any more: nothing has waited for their end.
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() - started < 35
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux alone")
@pytest.mark.usefixtures("sleepers")
def test_e10_start_while_a_killed_fork_server_ends(recipe, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_start_method", lambda: "forkserver")
    with RunPool(recipe, recording, tmp_path, 2) as workers:
        server = multiprocessing.forkserver._forkserver._forkserver_pid
        os.kill(server, signal.SIGKILL)
        while pathlib.Path(f"/proc/{server}/stat").read_text().split()[2] != "Z":
            time.sleep(0.01)
        # It takes connections no more, but counts as running.
        end, waitpid = time.monotonic() + 0.3, os.waitpid

        def late(pid, options):
            return (0, 0) if pid == server and time.monotonic() < end else waitpid(pid, options)

        monkeypatch.setattr(os, "waitpid", late)
        workers._workers.append(WorkerProcess(workers._start))
        assert time.monotonic() > end
        assert multiprocessing.forkserver._forkserver._forkserver_pid != server


class Talkative(threading.Thread):
    """Stands for a process whose run says more than a pipe holds."""

    def __init__(self, connection):
        super().__init__(daemon=True)
        self._connection = connection

    def run(self):
        with self._connection:
            self._connection.recv()
            self._connection.send(1)
            assert self._connection.recv() is None  # asked to stop
            for _ in range(50_000):  # more than a pipe holds
                self._connection.send(1)
            self._connection.send(Outcome({"status": execution.DONE}))


def start_talkative():
    ours, theirs = multiprocessing.Pipe()
    process = Talkative(theirs)
    process.start()
    return process, ours


def test_worker_that_ends_is_still_listened_to():
    process = WorkerProcess(start_talkative)
    assert process.submit(RunSpec(128, 3.2, 1.0, 0, 22))
    steps = []
    while not steps:
        process.receive(lambda run, count: steps.append(count))
    process.ask_to_stop()
    process.join()
    assert not process._process.is_alive()


def build_or_die(build, folder, deaths, seed):
    """Builds the network, but kills its worker process the first `deaths` times."""
    marks = list(folder.glob("death*"))
    if multiprocessing.parent_process() is not None and len(marks) < deaths:
        (folder / f"death{len(marks)}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return build(seed)


def deadly(recipe, folder, deaths):
    """The recipe, whose network kills workers."""
    changed = copy.copy(recipe)
    changed.model = functools.partial(build_or_die, recipe.model, folder, deaths)
    return changed


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_run_of_a_worker_that_dies_goes_on_in_a_new_one(recipe, recording, tmp_path):
    first, second = (RunSpec(128, 3.2, 1.0, seed, 22) for seed in (0, 1))
    notes = [tmp_path / f"note{i}" for i in range(2)]
    calls = [functools.partial(note_process, note) for note in notes]
    steps = {first: 0, second: 0}

    def on_steps(spec, count):
        steps[spec] += count

    (tmp_path / "study").mkdir()
    with RunPool(deadly(recipe, tmp_path, 1), recording, tmp_path / "study", 2) as workers:
        results = workers.execute([first], on_steps)
        # It goes where its program is, so that the other worker has none and is not called.
        results |= workers.execute([second], on_steps)
        assert steps == {first: 22, second: 22}
        workers.call_all(calls)
        ((worker, kind),) = {read_note(note) for note in notes}
        assert worker != os.getpid() and kind in ("ForkServerProcess", "SpawnProcess")
        with pytest.raises(records.WriteError, match="no room"):
            workers.call_all([fail_to_write])
        # Without workers this process does it.
        os.kill(worker, signal.SIGKILL)
        workers.call_all(calls)
        assert {read_note(note)[0] for note in notes} == {os.getpid()}
    assert (tmp_path / "death0").exists()
    assert [results[spec.name]["status"] for spec in (first, second)] == [execution.DONE] * 2


def build_line(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_workers_cost_what_came_after_their_checkpoints(tmp_path):
    # So small that nothing depends on the number of threads, and with a run of some seconds.
    x = np.random.default_rng(0).normal(size=(64, 3))
    recipe = Recipe(build_line, (x, x[:, :1]), keras.optimizers.SGD(0.01), "mse", 4, epochs=1)
    recording, ell = Recording(num_records=4, checkpoint_steps=1), 2.0**13
    grid = [RunSpec(4, 0.01, ell, seed, 16) for seed in (0, 1)] + [RunSpec(8, 0.02, ell, 0, 8)]
    begun, told, killed = [], [], []

    def on_steps(spec, count):
        begun.append(spec)
        if spec == grid[0]:
            told.append(count)
            if sum(told) >= 3 * ell and not killed:
                killed.extend(child.pid for child in multiprocessing.active_children())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    with RunPool(recipe, recording, tmp_path / "killed", num_workers=2) as workers:
        results = workers.execute(grid, on_steps)
    assert [results[spec.name]["status"] for spec in grid] == [execution.DONE] * 3
    # Each worker began with a program of its own, though the two longest runs share one.
    assert {spec.batch_size for spec in list(dict.fromkeys(begun))[:2]} == {4, 8}
    # The new worker tells what it found taken; of steps that it takes 512 at a time.
    assert len(killed) >= 2 and max(told) >= 2 * ell
    with RunPool(recipe, recording, tmp_path / "whole", num_workers=1) as workers:
        workers.execute(grid[:1], ignore)
    assert_same_end(tmp_path / "killed", tmp_path / "whole", grid[0])
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_run_whose_workers_die_fails_and_is_tried_anew(recipe, recording, tmp_path):
    spec = RunSpec(128, 3.2, 1.0, 0, 22)
    with RunPool(deadly(recipe, tmp_path, 99), recording, tmp_path / "study", 2) as workers:
        result = workers.execute([spec], ignore)[spec.name]
    assert result["status"] == execution.FAILED and "died 3 times" in result["message"]
    # It is not finished: the next call of the study tries it anew.
    assert not RunFolder(tmp_path / "study", spec.name).result.exists()
