"""Tests of keras_svag/study/pool.py: runs side by side are the runs one after the other."""

import collections
import concurrent.futures
import functools
import multiprocessing
import os
import signal
import types

import keras
import pytest
from keras_svag.study import pool, records, run_sde_validity, runs
from keras_svag.study.pool import RunPool, default_num_workers
from keras_svag.study.runs import Run
from tests.study.helpers import study_config

from keras_svag.datasets import digits


def test_two_workers_record_what_one_does(finished, tmp_path):
    # On two cores the records are the same to the byte. Elsewhere TensorFlow may cut a matrix
    # product among its threads (one in a worker, one a core in this process) and so add in
    # another order; 1e-7 a step grew to 1e-6 over a run in the test against float64.
    expected, expected_verdict = finished
    verdict = run_sde_validity(study_config(num_workers=2), tmp_path, show_progress=False)
    assert verdict["failed_runs"] == {}
    names = {path.name for path in (expected / "runs").iterdir()}
    assert len(names) == 6 and {path.name for path in (tmp_path / "runs").iterdir()} == names
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
    assert verdict["verdict"] == expected_verdict["verdict"]


def test_one_worker_takes_long_runs_first_and_one_program_a_batch_size(
    config, program, tmp_path, monkeypatch
):
    built = []

    def build(config, dataset, batch_size):
        built.append(batch_size)
        return program

    monkeypatch.setitem(pool.PROGRAMS, runs.SVAG, build)
    grid = [Run(128, 3.2, ell, seed, 22) for ell in (1.0, 4.0) for seed in (0, 1)]
    with RunPool(config, digits, tmp_path, num_workers=1) as workers:
        steps = []
        results = workers.execute(grid, lambda run, count: steps.append((run.ell, count)))
        taken = {ell: sum(n for e, n in steps if e == ell) for ell in (1.0, 4.0)}
        assert built == [128] and taken == {1.0: 2 * 22, 4.0: 2 * 88}
        assert {name: result["status"] for name, result in results.items()} == {
            run.name: runs.DONE for run in grid
        }
        paths = [tmp_path / "runs" / name / "result.json" for name in results]
        order = sorted(paths, key=lambda path: path.stat().st_mtime_ns)
        assert [path.parent.name[5:9] for path in order] == ["ell4", "ell4", "ell1", "ell1"]
        # Once more: nothing is left to do, and no program is asked for.
        monkeypatch.setitem(pool.PROGRAMS, runs.SVAG, None)
        assert workers.execute(grid, lambda run, count: None) == results
        workers.call_all([functools.partial(note_process, tmp_path / "note")])
        assert (tmp_path / "note").read_text() == str(os.getpid())


def fail_to_write():
    raise records.WriteError("no room")


def note_process(path):
    path.write_text(str(os.getpid()))


def test_one_worker_a_core_but_one_process_for_an_accelerator(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert default_num_workers() == cores
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert default_num_workers() == 1


@pytest.mark.parametrize("chosen", [None, "spawn", "fork", "forkserver"])
def test_worker_processes_are_never_forks_of_this_one(chosen, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: chosen)
    assert pool._start_method() == ("forkserver" if chosen == "forkserver" else "spawn")


class FakeWorker:
    def __init__(self, *programs):
        self.programs = set(programs)


def test_runs_go_where_their_program_is():
    small, large = (Run(b, 0.1, 1.0, 0, 10) for b in (8, 16))
    a, b = ("svag", 8), ("svag", 16)
    workers = [FakeWorker(a), FakeWorker(b)]
    assert pool._next_run([small, large], {b}, workers) is large  # here, though second in line
    assert pool._next_run([small, large], set(), [FakeWorker(), FakeWorker(a)]) is large  # nowhere
    assert pool._next_run([small], {b}, workers) is small  # elsewhere, but there is nothing else
    assert pool._next_run([small, large], set(), [FakeWorker()]) is small


class InstantWorker:
    """Stands for a worker process; `answers` has the statuses of its runs, in order."""

    def __init__(self, answers, log):
        self.programs, self._answers, self._log = set(), answers, log
        self._run, self.future = None, None

    is_idle = property(lambda self: self.future is None)
    is_done = property(lambda self: self.future is not None)

    def submit(self, run):
        self._log.append(run.seed)
        self._run, self.future = run, concurrent.futures.Future()
        self.future.set_result({"status": next(self._answers)})

    def report(self, on_steps):
        pass

    def collect(self):
        future, self.future = self.future, None
        return self._run, future.result()

    def stop(self):
        pass


def test_run_of_another_process_comes_after_all_others_and_without_haste(
    config, tmp_path, monkeypatch
):
    locked, done = runs.LOCKED, runs.DONE
    answers = iter([locked, done, done, locked, locked, done])
    log, waits = [], []
    monkeypatch.setattr(pool, "WorkerProcess", lambda start: InstantWorker(answers, log))
    monkeypatch.setattr(pool.time, "sleep", lambda seconds: waits.append((seconds, len(log))))
    grid = [Run(128, 3.2, 1.0, seed, 22) for seed in range(3)]
    with RunPool(config, digits, tmp_path, num_workers=2) as workers:
        results = workers.execute(grid, None)
    assert results == {run.name: {"status": runs.DONE} for run in grid}
    assert log == [0, 1, 2, 0, 0, 0]
    # Asked for again and again at once, a run that is locked would keep the processor busy.
    assert waits == [(pool.POLL_SECONDS, already) for already in (4, 5)]


def test_workers_end_after_a_checkpoint_if_this_process_fails(config, tmp_path):
    long = Run(128, 3.2, 256.0, 0, 22)

    def fail(run, count):
        if count:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with RunPool(config, digits, tmp_path, num_workers=2) as workers:
            workers.execute([long], fail)
    folder = runs.RunFolder(tmp_path, long.name)
    assert folder.checkpoint.exists() and not folder.result.exists()


class FullPipe:
    """A connection on which more and more comes until it is read."""

    def __init__(self, future, messages):
        self._future, self.messages = future, messages

    def poll(self):
        return self.messages > 0

    def recv(self):
        self.messages -= 1
        if not self.messages:  # it has room again, so that the worker gets to its end
            self._future.set_result({"status": runs.DONE})
        return 1

    def close(self):
        assert not self.messages


def test_worker_that_ends_is_still_listened_to():
    executor = types.SimpleNamespace(shutdown=lambda cancel_futures: None)
    worker = pool.WorkerProcess(lambda: (executor, None))
    worker.future = concurrent.futures.Future()
    worker._steps = FullPipe(worker.future, 3)
    worker.stop()
    assert worker.is_done


def load_or_die(folder, deaths):
    """Loads the data set, but kills the process the first `deaths` times."""
    if multiprocessing.parent_process() is None:
        return digits()
    marks = list(folder.glob("death*"))
    if len(marks) < deaths:
        (folder / f"death{len(marks)}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return digits()


@pytest.mark.parametrize(
    ("deaths", "status"),
    [(1, runs.DONE), pytest.param(99, runs.FAILED, marks=pytest.mark.slow)],
)
def test_a_worker_that_dies_fails_its_run_at_most(tmp_path, config, deaths, status):
    class OneAfterTheOther(RunPool):
        """So that the deaths are those of one run."""

        def __enter__(self):
            super().__enter__()
            self._workers.pop().stop()
            return self

    load = functools.partial(load_or_die, tmp_path, deaths)
    grid = [Run(128, 3.2, 1.0, seed, 22) for seed in (0, 1)]
    notes = [tmp_path / f"note{i}" for i in range(2)]
    calls = [functools.partial(note_process, note) for note in notes]
    steps = collections.Counter()
    with OneAfterTheOther(config, load, tmp_path / "study", num_workers=2) as workers:
        results = workers.execute(grid, lambda run, count: steps.update({run.seed: count}))
        if status == runs.DONE:
            assert steps == {0: 22, 1: 22}
            workers.call_all(calls)
            (worker,) = {int(note.read_text()) for note in notes}
            assert worker != os.getpid()
            with pytest.raises(records.WriteError, match="no room"):
                workers.call_all([fail_to_write])
            # Without workers this process does it.
            os.kill(worker, signal.SIGKILL)
            workers.call_all(calls)
            assert {int(note.read_text()) for note in notes} == {os.getpid()}
    assert [results[run.name]["status"] for run in grid] == [status, status]
    folder = runs.RunFolder(tmp_path / "study", grid[0].name)
    # A run whose worker died is not finished: the next call of the study tries it anew.
    assert folder.result.exists() == (status == runs.DONE)
    if status == runs.FAILED:
        assert "its worker process died 2 times" in results[grid[0].name]["message"]
