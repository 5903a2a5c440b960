"""A worker, which executes runs in this process or in a process of its own."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import traceback

from keras_svag.device_loop import limit_threads
from keras_svag.engine import execution
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.compiled_noises import CompiledGaussianTraining, CompiledSecondMomentTraining
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption, transfer
from keras_svag.engine.spec import GAUSSIAN, SECOND_MOMENT, SVAG, RunSpec
from keras_svag.engine.state import last_state
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
        program.restore(last_state(run, program, self._workdir))
        records.write_bytes(path, program.serialize_network())


def serve(connection, folder, payload, recording, workdir):
    """Executes what it receives, runs or functions, until the connection closes."""
    # It sends the step counts of a run as integers, and at the end an `Outcome`. While it executes
    # a run it receives nothing but the request to stop, so that anything to read is that.
    preemption.ignore_signals()
    tempfile.tempdir = folder  # TensorFlow leaves files there if its process is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    preemption.add_source(lambda: signal.SIGTERM if connection.poll() else 0)
    limit_threads(1)
    worker = Worker(transfer.unpack(payload), recording, workdir)
    # Also ends where the parent was killed, or asks for a stop after the last run.
    with contextlib.suppress(EOFError, OSError, preemption.PreemptedError):
        while (task := connection.recv()) is not None:
            connection.send(_attempt(task, worker, connection.send))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run or function, or the error that it raised."""

    value: object = None
    error: Exception | None = None
    trace: "WorkerTraceback | None" = None


class WorkerTraceback(Exception):
    """The traceback of an error in a worker process, shown as its cause."""

    def __init__(self, text, file):
        super().__init__(text, file)
        self.file = file  # that raised the error

    def __str__(self):
        return f"\n{self.args[0]}"


def _attempt(task, worker, on_steps):
    try:
        return Outcome(worker.execute(task, on_steps) if isinstance(task, RunSpec) else task())
    except Exception as error:
        text = traceback.format_exc()
        trace = WorkerTraceback(text, traceback.extract_tb(error.__traceback__)[-1].filename)
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return Outcome(error=error, trace=trace)


def _end_with_parent():
    """Ends this process as soon as its parent has ended, even if that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
