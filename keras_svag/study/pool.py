"""Runs of a study side by side: worker processes of one thread each.

Small networks keep one core busy at most, so on a CPU that is what uses the whole machine. Each
worker compiles one program for each batch size and keeps it. What a run computes does not depend
on which worker does it, nor on what else runs.
"""

import concurrent.futures
import functools
import multiprocessing
import os
import queue

import keras

from keras_svag.resident import limit_threads
from keras_svag.study import records, runs
from keras_svag.study.program import GaussianProgram, Program

POLL_SECONDS = 0.2
PROGRAMS = {runs.SVAG: Program, runs.GAUSSIAN: GaussianProgram}


class RunPool:
    """Executes runs, in this process or in several others; use it as a context manager.

    Args:
        config: a validated config.
        load_dataset: function without arguments that returns the data set; it must be picklable.
        workdir: folder of the study.
        num_workers: number of processes; 1 means this one, 0 one for each core (and this process
            alone where there is an accelerator, which one program fills).
    """

    def __init__(self, config, load_dataset, workdir, num_workers):
        self._arguments = (config, load_dataset, workdir)
        self._num_workers = num_workers or default_num_workers()
        self._executor = None
        self._worker = None

    def __enter__(self):
        if self._num_workers == 1:
            self._worker = Worker(*self._arguments)
            return self
        context = multiprocessing.get_context("spawn")
        self._steps = context.Queue()
        self._executor = concurrent.futures.ProcessPoolExecutor(
            self._num_workers, context, _start_worker, (*self._arguments, self._steps)
        )
        return self

    def __exit__(self, *error):
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def execute(self, grid, on_steps):
        """Executes the runs of a grid that are not finished yet.

        Args:
            grid: list of `Run`.
            on_steps: called with the number of SVAG steps just taken.

        Returns:
            A dict from run name to the dict of `runs.execute`.
        """
        # Long runs first, so that no worker is left with one at the end.
        ordered = sorted(grid, key=lambda run: -run.steps)
        if self._executor is None:
            return {run.name: self._worker.execute(run, on_steps) for run in ordered}
        futures = {run.name: self._executor.submit(_execute, run) for run in ordered}
        while not all(future.done() for future in futures.values()):
            self._report(on_steps, timeout=POLL_SECONDS)
        self._report(on_steps, timeout=None)
        return {name: future.result() for name, future in futures.items()}

    def save_network(self, run, path):
        """Saves the network at the end of a finished run, as a plain Keras model; one worker only.

        Args:
            run: a finished `Run`.
            path: file name that ends in `.keras`.
        """
        self._worker.save_network(run, path)

    def _report(self, on_steps, timeout):
        try:
            on_steps(self._steps.get(block=timeout is not None, timeout=timeout))
            while True:
                on_steps(self._steps.get_nowait())
        except queue.Empty:
            pass


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

    def save_network(self, run, path):
        """Saves the network of a finished run: see `RunPool.save_network`."""
        if path.exists():
            return
        program = self._program(run.method, run.batch_size)
        runs.restore_last(run, program, self._workdir)
        with records.atomic_path(path) as temporary:
            program.save_network(temporary)


def default_num_workers():
    """One worker for each core of a CPU-only machine, else one."""
    if any("cpu" not in device.lower() for device in keras.distribution.list_devices()):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


_worker_state = {}


def _start_worker(config, load_dataset, workdir, steps):
    limit_threads(1)
    _worker_state["worker"] = Worker(config, load_dataset, workdir)
    _worker_state["on_steps"] = steps.put


def _execute(run):
    return _worker_state["worker"].execute(run, _worker_state["on_steps"])
