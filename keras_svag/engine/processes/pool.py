"""A pool of single-threaded worker processes for the runs of a study.

Small networks keep at most one core busy, so on a CPU this is what uses the whole machine. Each
worker compiles one program per batch size and keeps it. The result of a run does not depend on
the worker that executes it, nor on what else runs.
"""

import collections
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import sys
import time

from keras_svag._scratch import temporary_folder
from keras_svag.distribution import is_distributed
from keras_svag.engine import execution
from keras_svag.engine.files import storage
from keras_svag.engine.processes import preemption, transfer, worker
from keras_svag.engine.processes.handle import POLL_SECONDS, WorkerProcess
from keras_svag.engine.vmap_seeds import group_by_seed, should_vectorize
from keras_svag.xla_policy import has_accelerator

MAX_ATTEMPTS = 3  # to execute a run, without progress in between
MAX_STARTS = 6  # of a process
START_PAUSE_SECONDS = 0.05  # after the first start that failed; doubled after each further one


class RunPool:
    """Context manager that executes runs, in this process or in `num_workers` others.

    0 workers means one per core, or this process alone where one program fills the machine (an
    accelerator, a strategy, vectorized seeds). A worker that dies is replaced, and its run resumes
    from its last checkpoint; a run whose workers die without progress counts as failed. Runs locked
    by another process are retried last.
    """

    def __init__(self, recipe, recording, workdir, num_workers=0, vectorize_seeds=None):
        if is_distributed() and num_workers > 1:
            raise ValueError(
                "`num_workers` must be 0 or 1 under a strategy, which gives each run all devices. "
                f"Received: num_workers={num_workers}. Set --config.num_workers=1, or use "
                "--strategy=none to execute runs in parallel."
            )
        if storage.is_private(workdir):
            if num_workers > 1:
                raise ValueError(
                    "`num_workers` must be 0 or 1 with a workdir in memory, which other processes "
                    f"do not see. Received: num_workers={num_workers}, workdir={str(workdir)!r}."
                )
            num_workers = 1
        self._recipe, self._arguments = recipe, (recording, workdir)
        self._is_vectorized = should_vectorize(vectorize_seeds, num_workers)
        # On request only: see `execute_group`.
        self._vectorizes_convolutions = bool(vectorize_seeds)
        self.num_workers = num_workers or (1 if self._is_vectorized else default_num_workers())
        self._workers = []
        self._worker = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(preemption.deferred_signals())
            if self.num_workers == 1:
                self._worker = worker.Worker(self._recipe, *self._arguments)
            else:
                # Holds large arrays, which all workers map, and what they leave behind.
                self._folder = stack.enter_context(temporary_folder())
                self._payload = transfer.pack(self._recipe, self._folder)
                self._context = multiprocessing.get_context(_start_method())
                stack.callback(self._stop)
                for _ in range(self.num_workers):
                    preemption.raise_if_requested()
                    self._workers.append(WorkerProcess(self._start))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def _stop(self):
        try:
            for process in self._workers:
                process.ask_to_stop()
            for process in self._workers:
                process.join()
        except BaseException:  # a second Ctrl-C
            for process in self._workers:
                process.kill()
            raise
        finally:
            self._workers = []

    def _start(self):
        """Starts a worker process; returns it and this end of its connection."""
        for attempt in range(MAX_STARTS):
            # A new pipe each time: the process may run although its start seemed to fail.
            connection, other = self._context.Pipe()
            arguments = (other, self._folder, self._payload, *self._arguments)
            process = self._context.Process(target=worker.serve, args=arguments)
            try:
                with other, _without_main_module(), preemption.blocked_signals():
                    process.start()
                return process, connection
            except (EOFError, OSError):  # the fork server was killed; the next try starts another
                connection.close()
                if attempt == MAX_STARTS - 1:
                    raise
                # A killed server closes its socket before its parent can see that it ended.
                time.sleep(START_PAUSE_SECONDS * 2**attempt)

    def execute(self, grid, on_steps):
        """Executes the unfinished runs of a grid; returns a dict from run name to result."""
        # Long runs first, so that no worker is left with one at the end.
        pending = sorted(grid, key=lambda run: -run.steps)
        if not self._workers:
            results = self._execute_groups(pending, on_steps) if self._is_vectorized else {}
            pending = [run for run in pending if run.name not in results]
            return results | execute_serially(self._worker.execute, pending, on_steps)
        results, attempts, locked = {}, _Attempts(), set()
        while len(results) < len(grid):
            preemption.raise_if_requested()
            if pending and locked.issuperset(run.name for run in pending):
                time.sleep(POLL_SECONDS)
            for process in self._workers:
                if process.is_idle and pending:
                    free = [run for run in pending if run.name not in locked]
                    run = _next_run(free or pending, process.programs, self._workers)
                    if process.submit(run):
                        pending.remove(run)
                        attempts.begin(run)
                        process.programs.add(run.program)
            for run, outcome in self._collect(attempts.count_steps(on_steps)):
                if outcome is None and attempts.may_repeat(run):
                    pending.insert(0, run)
                elif outcome is not None and outcome.value["status"] == execution.LOCKED:
                    pending.append(run)
                    locked.add(run.name)
                else:
                    results[run.name] = outcome.value if outcome else _crash_result(run)
        return results

    def _collect(self, on_steps=lambda run, steps: None):
        """Waits for workers; yields tasks that ended with their `Outcome`, `None` of a dead one."""
        busy = {process.connection: process for process in self._workers if not process.is_idle}
        for connection in multiprocessing.connection.wait(list(busy), timeout=POLL_SECONDS):
            process = busy[connection]
            task = process.task
            try:
                outcome = process.receive(on_steps)
            except EOFError:
                yield task, None
                continue
            if outcome is not None and outcome.error is not None:
                raise outcome.error from outcome.trace
            if outcome is not None:
                yield task, outcome

    def _execute_groups(self, pending, on_steps):
        """Executes the runs that can be vectorized; returns their results."""
        results = {}
        for group in group_by_seed(pending):
            preemption.raise_if_requested()
            results |= self._worker.execute_group(group, on_steps, self._vectorizes_convolutions)
        return results

    def call_all(self, calls):
        """Calls picklable, repeatable functions, in the workers that are running if any."""
        # Only those that have executed runs: the others may not have started yet.
        workers = [process for process in self._workers if process.programs]
        pending = list(calls)
        while workers and (pending or not all(process.is_idle for process in workers)):
            preemption.raise_if_requested()
            for process in workers:
                if process.is_idle and pending and process.submit(pending[-1]):
                    pending.pop()
            pending += [call for call, outcome in self._collect() if outcome is None]
            # Not those that replace a worker that died.
            workers = [process for process in workers if process.programs]
        for call in pending:
            call()

    def save_network(self, run, path):
        """Saves the final network of a finished run as a `.keras` file; one worker only."""
        self._worker.save_network(run, path)


class _Attempts:
    """Gives up a run only if its workers die at the same place again and again."""

    def __init__(self):
        self._since_progress = collections.Counter()
        self._steps = collections.Counter()  # of this attempt, with those found in the checkpoint
        self._most_steps = collections.Counter()

    def begin(self, run):
        self._steps[run.name] = 0

    def count_steps(self, on_steps):
        """An `on_steps` that counts and calls another one."""

        def count(run, steps):
            self._steps[run.name] += steps
            if self._steps[run.name] > self._most_steps[run.name]:
                self._most_steps[run.name] = self._steps[run.name]
                self._since_progress[run.name] = 0
            on_steps(run, steps)

        return count

    def may_repeat(self, run):
        self._since_progress[run.name] += 1
        return self._since_progress[run.name] < MAX_ATTEMPTS


def execute_serially(execute, pending, on_steps):
    """Executes runs serially in this process; runs locked by another are retried last."""
    results = {}
    while pending:
        locked = []
        for run in pending:
            preemption.raise_if_requested()
            result = execute(run, functools.partial(on_steps, run))
            if result["status"] == execution.LOCKED:
                locked.append(run)
            else:
                results[run.name] = result
        if len(locked) == len(pending):
            time.sleep(POLL_SECONDS)
        pending = locked
    return results


def _next_run(pending, programs, workers):
    """Next run for a worker: of a program it has compiled, else of one that nobody has."""
    elsewhere = set().union(*(process.programs for process in workers)) - programs
    for run in pending:
        if run.program in programs:
            return run
    return next((run for run in pending if run.program not in elsewhere), pending[0])


def _crash_result(run):
    return execution.failed_result(
        run,
        f"its worker process died {MAX_ATTEMPTS} times. See its output above; if there is none, it "
        "may be out of memory: use a smaller num_workers. Repeat the command to resume the run "
        "from its last checkpoint.",
    )


def default_num_workers():
    """One worker per core of a CPU-only machine, else one."""
    if is_distributed() or has_accelerator():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _start_method():
    """Multiprocessing start method: spawn, unless the program chose forkserver."""
    # Never fork: locks held by other threads of this process would stay locked in the child.
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen if chosen == "forkserver" else "spawn"


@contextlib.contextmanager
def _without_main_module():
    """Keeps new processes from rerunning the main script; its functions are pickled by value."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name, None) for name in ("__spec__", "__file__")}
    main.__spec__ = main.__file__ = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
