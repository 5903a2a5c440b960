"""A worker: executes runs one after the other, in this process or in one of its own."""

import functools
import multiprocessing
import os
import threading

from keras_svag.device_loop import limit_threads
from keras_svag.engine import execution
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.compiled_gaussian import CompiledGaussianTraining
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption, transfer
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.engine.state import restore_last
from keras_svag.engine.vmap_seeds import execute_group

PROGRAMS = {SVAG: CompiledTraining, GAUSSIAN: CompiledGaussianTraining}


class Worker:
    """Executes runs one after the other; one compiled program for each method and batch size.

    Args:
        recipe: a `Recipe`.
        recording: a `Recording`.
        workdir: folder of the study.
    """

    def __init__(self, recipe, recording, workdir):
        self._recording, self._workdir = recording, workdir
        self._program = functools.lru_cache(maxsize=None)(
            lambda method, batch_size: PROGRAMS[method](recipe, recording, batch_size)
        )

    def execute(self, run, on_steps):
        """Executes one run: see `execution.execute`."""
        program = functools.partial(self._program, *run.program)
        return execution.execute(run, program, self._recording, self._workdir, on_steps)

    def execute_group(self, group, on_steps, wanted):
        """Executes runs that differ in their seed alone: see `vmap_seeds.execute_group`."""
        program = functools.partial(self._program, *group[0].program)
        return execute_group(group, program, self._recording, self._workdir, on_steps, wanted)

    def save_network(self, run, path):
        """Saves the network of a finished run: see `RunPool.save_network`."""
        if path.exists():
            return
        program = self._program(*run.program)
        restore_last(run, program, self._workdir)
        with records.atomic_path(path) as temporary:
            program.save_network(temporary)


_worker_state = {}


def start(payload, recording, workdir, steps, end):
    """Makes this process a worker: the initializer of its executor."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    preemption.install_handler()
    preemption.add_source(functools.partial(_is_closed, end))
    limit_threads(1)
    _worker_state["worker"] = Worker(transfer.unpack(payload), recording, workdir)
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


def execute(run):
    """Executes a run in the worker that this process is."""
    return _worker_state["worker"].execute(run, _worker_state["steps"].send)
