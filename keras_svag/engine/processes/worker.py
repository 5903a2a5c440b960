"""A worker, which executes runs in this process or in a process of its own."""

import functools
import multiprocessing
import os
import threading

from keras_svag.device_loop import limit_threads
from keras_svag.engine import execution
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.compiled_noises import CompiledGaussianTraining, CompiledSecondMomentTraining
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption, transfer
from keras_svag.engine.spec import GAUSSIAN, SECOND_MOMENT, SVAG
from keras_svag.engine.state import restore_last
from keras_svag.engine.vmap_seeds import execute_group

TRAINING_CLASSES = {
    SVAG: CompiledTraining,
    GAUSSIAN: CompiledGaussianTraining,
    SECOND_MOMENT: CompiledSecondMomentTraining,
}


class Worker:
    """Executes runs serially, with one compiled program per method and batch size."""

    def __init__(self, recipe, recording, workdir):
        self._recording, self._workdir = recording, workdir
        self._program = functools.lru_cache(maxsize=None)(
            lambda method, batch_size: TRAINING_CLASSES[method](recipe, recording, batch_size)
        )

    def execute(self, run, on_steps):
        """Executes one run: see `execution.execute`."""
        program = functools.partial(self._program, *run.program)
        return execution.execute(run, program, self._recording, self._workdir, on_steps)

    def execute_group(self, group, on_steps, with_convolutions):
        """Executes runs that differ only in their seed: see `vmap_seeds.execute_group`."""
        program = functools.partial(self._program, *group[0].program)
        return execute_group(
            group, program, self._recording, self._workdir, on_steps, with_convolutions
        )

    def save_network(self, run, path):
        """Saves the network of a finished run."""
        program = self._program(*run.program)
        restore_last(run, program, self._workdir)
        records.write_bytes(path, program.serialize_network())


_worker_state = {}


def start(payload, recording, workdir, steps_sender, stop_receiver):
    """Initializes a worker process; the initializer of its executor."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    preemption.install_handler()
    preemption.add_source(functools.partial(_is_closed, stop_receiver))
    limit_threads(1)
    _worker_state["worker"] = Worker(transfer.unpack(payload), recording, workdir)
    _worker_state["steps_sender"] = steps_sender


def _is_closed(connection):
    """Returns True if the other end of a connection (which never sends) is closed."""
    try:
        return connection.poll()  # true at the end of the file
    except OSError:  # on Windows
        return True


def _end_with_parent():
    """Ends this process as soon as its parent has ended, even if that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def execute(run):
    """Executes a run in this worker process."""
    return _worker_state["worker"].execute(run, _worker_state["steps_sender"].send)
