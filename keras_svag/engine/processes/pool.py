"""Runs of a study side by side: worker processes of one thread each.

Small networks keep one core busy at most, so on a CPU that is what uses the whole machine. Each
worker compiles one program for each batch size and keeps it, and is given runs of the programs that
it has. What a run computes does not depend on which worker does it, nor on what else runs.
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
from keras_svag.engine.processes import preemption, transfer, worker
from keras_svag.engine.processes.handle import POLL_SECONDS, WorkerProcess
from keras_svag.engine.vmap_seeds import group_by_seed, should_vectorize
from keras_svag.xla_policy import has_accelerator

ATTEMPTS = 2


def call_in_turn(calls):
    """Calls functions without arguments one after the other."""
    for call in calls:
        call()


class RunPool:
    """Executes runs, in this process or in several others; use it as a context manager.

    A worker that dies is replaced, and its run goes on once from its last checkpoint; if it dies
    again the run counts as failed (and is tried anew when the study is), the study goes on. A run
    that a process of another study on the same folder is at is waited for, after all others.

    Args:
        recipe: a `Recipe`.
        recording: a `Recording`.
        workdir: folder of the study.
        num_workers: number of processes; 1 means this one, 0 one for each core (and this process
            alone where there is an accelerator, which one program fills, or a strategy, or where
            seeds go side by side in one program: see `vmap_seeds`). Defaults to `0`.
        vectorize_seeds: whether seeds go side by side in one program: True, False, or `None` for
            accelerators only. Defaults to `None`.

    Raises:
        ValueError: if there is a strategy, which gives each run all devices, and `num_workers` asks
            for several runs at a time, or seeds cannot be vectorized.
    """

    def __init__(self, recipe, recording, workdir, num_workers=0, vectorize_seeds=None):
        if is_distributed() and num_workers > 1:
            raise ValueError(
                "`num_workers` must be 0 or 1 under a strategy, which gives each run all devices. "
                f"Received: num_workers={num_workers}. Set --config.num_workers=1, or use "
                "--strategy=none to have runs side by side."
            )
        self._recipe, self._arguments = recipe, (recording, workdir)
        self._is_vectorized = should_vectorize(vectorize_seeds, num_workers)
        self._wanted = bool(vectorize_seeds)
        self._num_workers = num_workers or (1 if self._is_vectorized else default_num_workers())
        self._workers = []
        self._worker = None

    def __enter__(self):
        if self._num_workers == 1:
            self._worker = worker.Worker(self._recipe, *self._arguments)
            return self
        self._context = multiprocessing.get_context(_start_method())
        # Large arrays lie in files there, which all workers map.
        self._arrays = tempfile.TemporaryDirectory(prefix="keras_svag_")
        try:
            self._payload = transfer.pack(self._recipe, self._arrays.name)
        except ValueError:
            self._arrays.cleanup()
            raise
        # Pipes, not queues or events: a worker that is killed cannot leave a lock of theirs taken.
        self._end, self._until_end = self._context.Pipe(duplex=False)
        self._workers = [WorkerProcess(self._start) for _ in range(self._num_workers)]
        return self

    def __exit__(self, *error):
        if not self._workers:
            return
        if any(error):
            self._until_end.close()  # they end after a checkpoint
        for process in self._workers:
            process.stop()
        self._workers = []
        self._until_end.close()
        self._end.close()
        self._arrays.cleanup()

    def _start(self):
        """An executor of one process, so that runs can be given to the worker of their program.

        Returns:
            A tuple of it and of the connection on which it says how many steps it has taken.
        """
        steps, said = self._context.Pipe(duplex=False)
        arguments = (self._payload, *self._arguments, said, self._end)
        executor = concurrent.futures.ProcessPoolExecutor(1, self._context, worker.start, arguments)
        with _without_main_module():
            executor.submit(os.getpid)  # which starts the process
        return executor, steps

    def execute(self, grid, on_steps):
        """Executes the runs of a grid that are not finished yet.

        Args:
            grid: list of `RunSpec`.
            on_steps: called with a run and the number of its steps just taken (or found taken).

        Returns:
            A dict from run name to the dict of `execution.execute`.

        Raises:
            PreemptedError: after checkpoints of all runs in progress, if the process was asked to
                end.
        """
        # Long runs first, so that no worker is left with one at the end.
        waiting = sorted(grid, key=lambda run: -run.steps)
        if not self._workers:
            results = self._execute_groups(waiting, on_steps) if self._is_vectorized else {}
            rest = [run for run in waiting if run.name not in results]
            return results | execute_in_turn(self._worker.execute, rest, on_steps)
        results, attempts, locked = {}, collections.Counter(), set()
        while len(results) < len(grid):
            preemption.raise_if_requested()
            if waiting and locked.issuperset(run.name for run in waiting):
                time.sleep(POLL_SECONDS)
            for process in self._workers:
                if process.is_idle and waiting:
                    free = [run for run in waiting if run.name not in locked]
                    run = _next_run(free or waiting, process.programs, self._workers)
                    waiting.remove(run)
                    attempts[run.name] += 1
                    process.submit(run)
            concurrent.futures.wait(
                [process.future for process in self._workers if not process.is_idle],
                timeout=POLL_SECONDS,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            for process in self._workers:
                is_done = process.is_done  # asked before, so that all that it has said is there
                process.report(on_steps)
                if is_done:
                    run, result = process.collect()
                    if result is None and attempts[run.name] < ATTEMPTS:
                        waiting.insert(0, run)
                    elif result is not None and result["status"] == execution.LOCKED:
                        waiting.append(run)
                        attempts[run.name] -= 1
                        locked.add(run.name)
                    else:
                        results[run.name] = result or _died(run)
        return results

    def _execute_groups(self, waiting, on_steps):
        """Executes side by side, on JAX, what differs in the seed alone; the rest is left."""
        results = {}
        for group in group_by_seed(waiting):
            preemption.raise_if_requested()
            results |= self._worker.execute_group(group, on_steps, self._wanted)
        return results

    def call_all(self, calls):
        """Calls functions, side by side in the worker processes that have executed runs, if any.

        Args:
            calls: list of functions without arguments, which can be pickled and called again.

        Raises:
            Exception: whatever one of them raises.
        """
        # The others would have to be started first.
        workers = [process for process in self._workers if process.programs]
        try:
            futures = [process.call(call) for process, call in zip(itertools.cycle(workers), calls)]
            for future in futures:
                future.result()
        except concurrent.futures.process.BrokenProcessPool:  # one has died
            workers = []
        if not workers:
            call_in_turn(calls)

    def save_network(self, run, path):
        """Saves the network at the end of a finished run, as a plain Keras model; one worker only.

        Args:
            run: a finished `RunSpec`.
            path: file name that ends in `.keras`.
        """
        self._worker.save_network(run, path)


def execute_in_turn(execute, waiting, on_steps):
    """Executes runs one after the other in this process, those that others are at in the end.

    Args:
        execute: function of a run and an `on_steps` of its own, such as `Worker.execute`.
        waiting: list of `RunSpec`.
        on_steps: as for `RunPool.execute`.

    Returns:
        A dict from run name to the dict of `execution.execute`.

    Raises:
        PreemptedError: as `RunPool.execute` does.
    """
    results = {}
    while waiting:
        locked = []
        for run in waiting:
            preemption.raise_if_requested()
            result = execute(run, functools.partial(on_steps, run))
            if result["status"] == execution.LOCKED:
                locked.append(run)
            else:
                results[run.name] = result
        if len(locked) == len(waiting):
            time.sleep(POLL_SECONDS)
        waiting = locked
    return results


def _next_run(waiting, programs, workers):
    """The run to do next: of a program that is compiled here, else one that is compiled nowhere."""
    elsewhere = set().union(*(process.programs for process in workers)) - programs
    for run in waiting:
        if run.program in programs:
            return run
    return next((run for run in waiting if run.program not in elsewhere), waiting[0])


def _died(run):
    return {
        **dataclasses.asdict(run),
        "name": run.name,
        "status": execution.FAILED,
        "seconds": 0.0,
        "message": f"Run {run.name}: its worker process died {ATTEMPTS} times. What it printed "
        "stands above; if nothing, memory may be short: use a smaller num_workers. The same "
        "command goes on from the run's last checkpoint.",
    }


def default_num_workers():
    """One worker for each core of a CPU-only machine; one where a run has all devices."""
    if is_distributed() or has_accelerator():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _start_method():
    """How worker processes start: anew, unless the program has chosen a fork server, as ours do."""
    # Never by a fork of this process, whose threads hold locks that nobody would release there.
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen if chosen == "forkserver" else "spawn"


@contextlib.contextmanager
def _without_main_module():
    """Keeps new processes from running the main script again: its functions go by value."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name, None) for name in ("__spec__", "__file__")}
    main.__spec__ = main.__file__ = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
