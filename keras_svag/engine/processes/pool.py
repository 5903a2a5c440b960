"""A pool of single-threaded worker processes for the runs of a study.

Small networks keep at most one core busy, so on a CPU this is what uses the whole machine. Each
worker compiles one program per batch size and keeps it. The result of a run does not depend on
the worker that executes it, nor on what else runs.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import sys
import tempfile
import time

from keras_svag.distribution import is_distributed
from keras_svag.engine import execution
from keras_svag.engine.files import storage
from keras_svag.engine.processes import preemption, transfer, worker
from keras_svag.engine.processes.handle import POLL_SECONDS, WorkerProcess
from keras_svag.engine.vmap_seeds import group_by_seed, should_vectorize
from keras_svag.xla_policy import has_accelerator

MAX_ATTEMPTS = 2


class RunPool:
    """Context manager that executes runs, in this process or in `num_workers` others.

    0 workers means one per core, or this process alone where one program fills the machine (an
    accelerator, a strategy, vectorized seeds). A worker that dies is replaced, and its run resumes
    from its last checkpoint once; if it dies again the run counts as failed. Runs locked by another
    process are retried last.
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
        self._num_workers = num_workers or (1 if self._is_vectorized else default_num_workers())
        self._workers = []
        self._worker = None

    def __enter__(self):
        if self._num_workers == 1:
            self._worker = worker.Worker(self._recipe, *self._arguments)
            return self
        self._context = multiprocessing.get_context(_start_method())
        # Holds large arrays, which all workers map.
        self._arrays = tempfile.TemporaryDirectory(prefix="keras_svag_")
        try:
            self._payload = transfer.pack(self._recipe, self._arrays.name)
        except ValueError:
            self._arrays.cleanup()
            raise
        # Pipes, not queues or events, whose locks a killed worker might never release.
        self._stop_receiver, self._stop_sender = self._context.Pipe(duplex=False)
        self._workers = [WorkerProcess(self._start) for _ in range(self._num_workers)]
        return self

    def __exit__(self, *error):
        if not self._workers:
            return
        if any(error):
            self._stop_sender.close()  # workers save a checkpoint and stop
        for process in self._workers:
            process.stop()
        self._workers = []
        self._stop_sender.close()
        self._stop_receiver.close()
        self._arrays.cleanup()

    def _start(self):
        """Starts an executor of one process; returns it and the connection for step counts."""
        # One process each, so that a run can be given to the worker that has compiled its program.
        steps, steps_sender = self._context.Pipe(duplex=False)
        arguments = (self._payload, *self._arguments, steps_sender, self._stop_receiver)
        executor = concurrent.futures.ProcessPoolExecutor(1, self._context, worker.start, arguments)
        with _without_main_module():
            executor.submit(os.getpid)  # starts the process
        return executor, steps

    def execute(self, grid, on_steps):
        """Executes the unfinished runs of a grid; returns a dict from run name to result."""
        # Long runs first, so that no worker is left with one at the end.
        pending = sorted(grid, key=lambda run: -run.steps)
        if not self._workers:
            results = self._execute_groups(pending, on_steps) if self._is_vectorized else {}
            pending = [run for run in pending if run.name not in results]
            return results | execute_serially(self._worker.execute, pending, on_steps)
        results, attempts, locked = {}, collections.Counter(), set()
        while len(results) < len(grid):
            preemption.raise_if_requested()
            if pending and locked.issuperset(run.name for run in pending):
                time.sleep(POLL_SECONDS)
            for process in self._workers:
                if process.is_idle and pending:
                    free = [run for run in pending if run.name not in locked]
                    run = _next_run(free or pending, process.programs, self._workers)
                    pending.remove(run)
                    attempts[run.name] += 1
                    process.submit(run)
            concurrent.futures.wait(
                [process.future for process in self._workers if not process.is_idle],
                timeout=POLL_SECONDS,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            for process in self._workers:
                is_done = process.is_done  # before `report`, which then gets all its step counts
                process.report(on_steps)
                if not is_done:
                    continue
                run, result = process.collect()
                if result is None and attempts[run.name] < MAX_ATTEMPTS:
                    pending.insert(0, run)
                elif result is not None and result["status"] == execution.LOCKED:
                    pending.append(run)
                    attempts[run.name] -= 1
                    locked.add(run.name)
                else:
                    results[run.name] = result or _crash_result(run)
        return results

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
        try:
            futures = [process.call(call) for process, call in zip(itertools.cycle(workers), calls)]
            for future in futures:
                future.result()
        except concurrent.futures.process.BrokenProcessPool:  # a worker died
            workers = []
        if not workers:
            for call in calls:
                call()

    def save_network(self, run, path):
        """Saves the final network of a finished run as a `.keras` file; one worker only."""
        self._worker.save_network(run, path)


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
    return {
        **dataclasses.asdict(run),
        "name": run.name,
        "status": execution.FAILED,
        "seconds": 0.0,
        "message": f"Run {run.name}: its worker process died {MAX_ATTEMPTS} times. See its output "
        "above; if there is none, it may be out of memory: use a smaller num_workers. Repeat the "
        "command to resume the run from its last checkpoint.",
    }


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
