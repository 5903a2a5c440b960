"""Runs of a study side by side: worker processes of one thread each.

Small networks keep one core busy at most, so on a CPU that is what uses the whole machine. Each
worker compiles one program for each batch size and keeps it, and is given runs of the programs that
it has. What a run computes does not depend on which worker does it, nor on what else runs.
"""

import collections
import concurrent.futures
import concurrent.futures.process
import dataclasses
import functools
import itertools
import multiprocessing
import os
import threading
import time

from keras_svag.distribution import is_distributed
from keras_svag.loops import has_accelerator
from keras_svag.resident import limit_threads
from keras_svag.study import preemption, records, runs
from keras_svag.study.figures import in_turn
from keras_svag.study.groups import execute_group, groups_of, is_vectorized
from keras_svag.study.program import GaussianProgram, Program

POLL_SECONDS = 0.2
ATTEMPTS = 2
PROGRAMS = {runs.SVAG: Program, runs.GAUSSIAN: GaussianProgram}


class RunPool:
    """Executes runs, in this process or in several others; use it as a context manager.

    A worker that dies is replaced, and its run goes on once from its last checkpoint; if it dies
    again the run counts as failed (and is tried anew when the study is), the study goes on. A run
    that a process of another study on the same folder is at is waited for, after all others.

    Args:
        config: a validated config.
        load_dataset: function without arguments that returns the data set; it must be picklable.
        workdir: folder of the study.
        num_workers: number of processes; 1 means this one, 0 one for each core (and this process
            alone where there is an accelerator, which one program fills, or a strategy, or where
            seeds go side by side in one program: see `groups`).

    Raises:
        ValueError: if there is a strategy, which gives each run all devices, and `num_workers` asks
            for several runs at a time.
    """

    def __init__(self, config, load_dataset, workdir, num_workers):
        if is_distributed() and num_workers > 1:
            raise ValueError(
                "`num_workers` must be 0 or 1 under a strategy, which gives each run all devices. "
                f"Received: num_workers={num_workers}. Set --config.num_workers=1, or use "
                "--strategy=none to have runs side by side."
            )
        self._arguments = (config, load_dataset, workdir)
        self._is_vectorized = is_vectorized(config, num_workers)
        self._num_workers = num_workers or (1 if self._is_vectorized else default_num_workers())
        self._workers = []
        self._worker = None

    def __enter__(self):
        if self._num_workers == 1:
            self._worker = Worker(*self._arguments)
            return self
        self._context = multiprocessing.get_context(_start_method())
        # Pipes, not queues or events: a worker that is killed cannot leave a lock of theirs taken.
        self._end, self._until_end = self._context.Pipe(duplex=False)
        self._workers = [WorkerProcess(self._start) for _ in range(self._num_workers)]
        return self

    def __exit__(self, *error):
        if not self._workers:
            return
        if any(error):
            self._until_end.close()  # they end after a checkpoint
        for worker in self._workers:
            worker.stop()
        self._workers = []
        self._until_end.close()
        self._end.close()

    def _start(self):
        """An executor of one process, so that runs can be given to the worker of their program.

        Returns:
            A tuple of it and of the connection on which it says how many steps it has taken.
        """
        steps, said = self._context.Pipe(duplex=False)
        arguments = (*self._arguments, said, self._end)
        executor = concurrent.futures.ProcessPoolExecutor(
            1, self._context, _start_worker, arguments
        )
        return executor, steps

    def execute(self, grid, on_steps):
        """Executes the runs of a grid that are not finished yet.

        Args:
            grid: list of `Run`.
            on_steps: called with a run and the number of its steps just taken (or found taken).

        Returns:
            A dict from run name to the dict of `runs.execute`.

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
            preemption.end_if_requested()
            if waiting and locked.issuperset(run.name for run in waiting):
                time.sleep(POLL_SECONDS)
            for worker in self._workers:
                if worker.is_idle and waiting:
                    free = [run for run in waiting if run.name not in locked]
                    run = _next_run(free or waiting, worker.programs, self._workers)
                    waiting.remove(run)
                    attempts[run.name] += 1
                    worker.submit(run)
            concurrent.futures.wait(
                [worker.future for worker in self._workers if not worker.is_idle],
                timeout=POLL_SECONDS,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            for worker in self._workers:
                is_done = worker.is_done  # asked before, so that all that it has said is there
                worker.report(on_steps)
                if is_done:
                    run, result = worker.collect()
                    if result is None and attempts[run.name] < ATTEMPTS:
                        waiting.insert(0, run)
                    elif result is not None and result["status"] == runs.LOCKED:
                        waiting.append(run)
                        attempts[run.name] -= 1
                        locked.add(run.name)
                    else:
                        results[run.name] = result or _died(run)
        return results

    def _execute_groups(self, waiting, on_steps):
        """Executes side by side, on JAX, what differs in the seed alone; the rest is left."""
        results = {}
        for group in groups_of(waiting):
            preemption.end_if_requested()
            results |= self._worker.execute_group(group, on_steps)
        return results

    def call_all(self, calls):
        """Calls functions, side by side in the worker processes that have executed runs, if any.

        Args:
            calls: list of functions without arguments, which can be pickled and called again.

        Raises:
            Exception: whatever one of them raises.
        """
        # The others would have to be started first.
        workers = [worker for worker in self._workers if worker.programs]
        try:
            futures = [worker.call(call) for worker, call in zip(itertools.cycle(workers), calls)]
            for future in futures:
                future.result()
        except concurrent.futures.process.BrokenProcessPool:  # one has died
            workers = []
        if not workers:
            in_turn(calls)

    def save_network(self, run, path):
        """Saves the network at the end of a finished run, as a plain Keras model; one worker only.

        Args:
            run: a finished `Run`.
            path: file name that ends in `.keras`.
        """
        self._worker.save_network(run, path)


def execute_in_turn(execute, waiting, on_steps):
    """Executes runs one after the other in this process, those that others are at in the end.

    Args:
        execute: function of a run and an `on_steps` of its own, such as `Worker.execute`.
        waiting: list of `Run`.
        on_steps: as for `RunPool.execute`.

    Returns:
        A dict from run name to the dict of `runs.execute`.

    Raises:
        PreemptedError: as `RunPool.execute` does.
    """
    results = {}
    while waiting:
        locked = []
        for run in waiting:
            preemption.end_if_requested()
            result = execute(run, functools.partial(on_steps, run))
            if result["status"] == runs.LOCKED:
                locked.append(run)
            else:
                results[run.name] = result
        if len(locked) == len(waiting):
            time.sleep(POLL_SECONDS)
        waiting = locked
    return results


class WorkerProcess:
    """One worker process as this process sees it.

    Args:
        start: function without arguments that starts an executor of one process, and returns it
            with the connection on which numbers of steps come.
    """

    def __init__(self, start):
        self._start = start
        self._executor, self._steps = start()
        self._run = self.future = None
        self.programs = set()  # what it has compiled, or is compiling

    @property
    def is_idle(self):
        """Whether it can be given a run."""
        return self.future is None

    @property
    def is_done(self):
        """Whether there is a result to collect."""
        return self.future is not None and self.future.done()

    def submit(self, run):
        """Gives it a run."""
        try:
            future = self._executor.submit(_execute, run)
        except concurrent.futures.process.BrokenProcessPool:  # it died while it was idle
            self._restart()
            future = self._executor.submit(_execute, run)
        self.programs.add(_program_of(run))
        self._run, self.future = run, future

    def call(self, function):
        """Has it call a function without arguments; returns a future."""
        return self._executor.submit(function)

    def report(self, on_steps):
        """Passes on what it has said of its run since the last time."""
        while self.future is not None and self._steps.poll():
            on_steps(self._run, self._steps.recv())

    def collect(self):
        """Its run and the result, or `None` for a result if the process died."""
        run, future, self.future = self._run, self.future, None
        try:
            return run, future.result()
        except concurrent.futures.process.BrokenProcessPool:
            self._restart()
            return run, None

    def _restart(self):
        self.stop()
        (self._executor, self._steps), self.programs = self._start(), set()

    def stop(self):
        """Ends the process, after its run."""
        while self.future is not None and not self.is_done:
            # Read on: a worker cannot go on once the pipe is full.
            concurrent.futures.wait([self.future], timeout=POLL_SECONDS)
            self.report(lambda run, steps: None)
        self._executor.shutdown(cancel_futures=True)
        self._steps.close()


def _program_of(run):
    return run.method, run.batch_size


def _next_run(waiting, programs, workers):
    """The run to do next: of a program that is compiled here, else one that is compiled nowhere."""
    elsewhere = set().union(*(worker.programs for worker in workers)) - programs
    for run in waiting:
        if _program_of(run) in programs:
            return run
    return next((run for run in waiting if _program_of(run) not in elsewhere), waiting[0])


def _died(run):
    return {
        **dataclasses.asdict(run),
        "name": run.name,
        "status": runs.FAILED,
        "seconds": 0.0,
        "message": f"Run {run.name}: its worker process died {ATTEMPTS} times. What it printed "
        "stands above; if nothing, memory may be short: use a smaller num_workers. The same "
        "command goes on from the run's last checkpoint.",
    }


class Worker:
    """Executes runs one after the other; one compiled program for each method and batch size.

    Args:
        config: a validated config.
        load_dataset: function without arguments that returns the data set.
        workdir: folder of the study.
    """

    def __init__(self, config, load_dataset, workdir):
        self._config = config
        self._workdir = workdir
        self._dataset = load_dataset()
        self._program = functools.lru_cache(maxsize=None)(
            lambda method, batch_size: PROGRAMS[method](config, self._dataset, batch_size)
        )

    def execute(self, run, on_steps):
        """Executes one run: see `runs.execute`."""
        return runs.execute(
            run,
            lambda: self._program(run.method, run.batch_size),
            self._config,
            self._workdir,
            on_steps,
        )

    def execute_group(self, group, on_steps):
        """Executes runs that differ in their seed alone: see `groups.execute_group`."""
        return execute_group(
            group,
            lambda: self._program(group[0].method, group[0].batch_size),
            self._config,
            self._workdir,
            on_steps,
        )

    def save_network(self, run, path):
        """Saves the network of a finished run: see `RunPool.save_network`."""
        if path.exists():
            return
        program = self._program(run.method, run.batch_size)
        runs.restore_last(run, program, self._workdir)
        with records.atomic_path(path) as temporary:
            program.save_network(temporary)


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


_worker_state = {}


def _start_worker(config, load_dataset, workdir, steps, end):
    threading.Thread(target=_end_with_parent, daemon=True).start()
    preemption.watch()
    preemption.obey(functools.partial(_is_closed, end))
    limit_threads(1)
    _worker_state["worker"] = Worker(config, load_dataset, workdir)
    _worker_state["steps"] = steps


def _is_closed(connection):
    """Whether the other side of a connection on which nothing is sent is closed."""
    try:
        return connection.poll()  # there is an end of file to read
    except OSError:  # what Windows says of it
        return True


def _end_with_parent():
    """Ends this process when the one that started it has ended, in whatever way."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _execute(run):
    return _worker_state["worker"].execute(run, _worker_state["steps"].send)
