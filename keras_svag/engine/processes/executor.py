"""Runs on an executor: processes of any cluster that see the folder of the study."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import platform
import secrets
import shutil
import time

from keras_svag._checks import error_text
from keras_svag.distribution import is_distributed
from keras_svag.engine import execution
from keras_svag.engine.files import lock, records
from keras_svag.engine.files.remote import RemotePath
from keras_svag.engine.processes import call, preemption, transfer
from keras_svag.engine.processes.handle import POLL_SECONDS
from keras_svag.engine.state import RunFolder

MAX_ATTEMPTS = 2
# An executor may be slow to stop its calls; what they have not saved is trained again.
STOP_SECONDS = 60
# How often this process shows that it lives, and after how long without it is taken for dead.
BEAT_SECONDS, DEAD_SECONDS = 60, 3600
FOLDER = ".calls."


class ExecutorPool:
    """Context manager that executes runs on a `concurrent.futures.Executor`, a call for each.

    Functions travel with the call, large arrays by files in the workdir, which are removed in the
    end. A call that fails or is lost is repeated once, from the run's last checkpoint. Only
    `submit` of the executor is used, and `done`, `result` and `cancel` of what it returns.
    """

    def __init__(self, executor, recipe, recording, workdir, num_workers=0, vectorize_seeds=None):
        _check(executor, workdir, num_workers, vectorize_seeds)
        self._executor, self._recipe, self._recording = executor, recipe, recording
        self._workdir = pathlib.Path(workdir).resolve()
        self._folder = self._workdir / f"{FOLDER}{secrets.token_hex(4)}"
        self._alive = self._folder / call.ALIVE
        self._futures, self._job, self._beat = {}, None, 0.0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(preemption.deferred_signals())
            payload, self._arrays = transfer.pickle_recipe(
                self._recipe, self._folder, load=transfer.load_array
            )
            origin = platform.node(), os.getpid()
            self._job = call.Job(
                payload, str(self._folder), self._recording, str(self._workdir), origin
            )
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def _stop(self):
        # Without this file calls save a checkpoint and stop.
        self._alive.unlink(missing_ok=True)
        end = time.monotonic() + STOP_SECONDS
        try:
            running = [future for future in self._futures.values() if not future.cancel()]
            while not all(future.done() for future in running) and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
        finally:  # also after a second Ctrl-C
            shutil.rmtree(self._folder, ignore_errors=True)

    def execute(self, grid, on_steps):
        """Executes the unfinished runs of a grid; returns a dict from run name to result."""
        results, attempts, locked = self._find_results(grid, on_steps), collections.Counter(), []
        # Long runs first, so that no process is left with one at the end.
        pending = sorted(grid, key=lambda run: -run.steps)
        pending = [run for run in pending if run.name not in results]
        if pending:
            self._share_files()
        while len(results) < len(grid):
            preemption.raise_if_requested()
            self._show_life()
            for run in pending:
                self._submit(run, attempts)
            pending = [run for run in locked if self._is_unlocked(run)]
            locked = [run for run in locked if run not in pending]
            done = [run for run, future in self._futures.items() if future.done()]
            if not done:
                time.sleep(POLL_SECONDS)
            for run in done:
                result = _result_of(self._futures.pop(run))
                if result["status"] == execution.LOCKED:
                    locked.append(run)
                    attempts[run] -= 1
                elif result["status"] in (execution.DONE, execution.FAILED):
                    results[run.name] = result
                    on_steps(run, run.steps)
                elif attempts[run] < MAX_ATTEMPTS:
                    pending.append(run)
                else:
                    results[run.name] = _failed_result(run, result)
        return results

    def _find_results(self, grid, on_steps):
        found = {}
        for run in grid:
            folder = RunFolder(self._workdir, run.name)
            result = execution.find_result(run, self._recording, folder)
            if result is not None:
                found[run.name] = result
                on_steps(run, run.steps)
        return found

    def _share_files(self):
        """Writes the arrays; removes those of processes that were killed."""
        if self._alive.exists():
            return
        for folder in self._workdir.glob(f"{FOLDER}*"):
            if time.time() - _last_beat(folder) > DEAD_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        with records.writing(self._folder):
            self._folder.mkdir()
            transfer.save_arrays(self._arrays)
            self._alive.touch()

    def _show_life(self):
        if time.monotonic() - self._beat > BEAT_SECONDS and self._alive.exists():
            self._beat = time.monotonic()
            with records.writing(self._alive):
                os.utime(self._alive)

    def _submit(self, run, attempts):
        attempts[run] += 1
        try:
            # The token makes each call another one: some executors keep the results of old calls.
            self._futures[run] = self._executor.submit(
                call.execute, self._job, run, secrets.token_hex(4)
            )
        except Exception as error:
            raise concurrent.futures.BrokenExecutor(
                "`executor` must take calls until the study ends. Received: "
                f"executor={type(self._executor).__name__}, which raised {error_text(error)}. "
                "Repeat the call with a new executor: it resumes from the last checkpoints."
            ) from error

    def _is_unlocked(self, run):
        folder = RunFolder(self._workdir, run.name)
        if folder.result.exists():
            return True
        with lock.acquire(folder.lock) as held:
            return held

    def call_all(self, calls):
        """Calls functions in this process."""
        for function in calls:
            function()


def _check(executor, workdir, num_workers, vectorize_seeds):
    if not callable(getattr(executor, "submit", None)):
        raise ValueError(
            "`executor` must have a method `submit`, as a concurrent.futures.Executor. "
            f"Received: executor={executor!r}"
        )
    if isinstance(workdir, RemotePath):
        raise ValueError(
            "`workdir` must be a folder that all processes of an executor have mounted. Received: "
            f"workdir={str(workdir)!r}. In an object store, start the command on each machine: "
            "the runs are shared."
        )
    if num_workers > 1 or vectorize_seeds:
        raise ValueError(
            "`num_workers` and `vectorize_seeds` must be left out with an executor, which decides "
            f"how many runs go on at once. Received: num_workers={num_workers}, "
            f"vectorize_seeds={vectorize_seeds}"
        )
    if is_distributed():
        raise ValueError(
            "`executor` must be None under a strategy, which gives each run all devices of this "
            f"process. Received: executor={type(executor).__name__}. Leave one of the two out."
        )


def _last_beat(folder):
    """When the process of a folder last showed that it lives; now if it has just removed it."""
    # Without the file, the process is about to write it, or was stopped and then killed.
    for path in (folder / call.ALIVE, folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return time.time()


def _result_of(future):
    """The result of a call, or the error that lost it, as a dict."""
    try:
        return future.result()
    except Exception as error:
        return {"status": call.ERROR, "message": error_text(error)}


def _failed_result(run, result):
    """The result of a run whose calls failed; errors of the user or of the folder are raised."""
    if result.get("kind") in call.KINDS:
        raise call.KINDS[result["kind"]](result["message"])
    return execution.failed_result(
        run,
        f"its call failed {MAX_ATTEMPTS} times on the executor ({result['message']}). Repeat the "
        "call of the study to resume the run from its last checkpoint.",
    )
