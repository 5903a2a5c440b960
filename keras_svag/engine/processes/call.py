"""A call of an executor: one run, executed in whatever process the executor calls it in."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import platform
import signal
import threading

import keras

from keras_svag._checks import error_text, one_line
from keras_svag.device_loop import limit_threads
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption, transfer
from keras_svag.engine.processes.worker import Worker
from keras_svag.engine.recording import Recording
from keras_svag.version import __version__

# A file in the folder of a job for as long as somebody waits for its results.
ALIVE = "alive"
# Besides those in `result.json`.
STOPPED, ERROR = "stopped", "error"
# Errors that are for the user, by name.
KINDS = {"ValueError": ValueError, "WriteError": records.WriteError}

# Keras has one state per process, so its runs take turns where an executor has threads.
_turn = threading.Lock()
# The `ALIVE` file of the run in progress, and the last `Worker`, by the folder of its job.
_state: dict = {"alive": None, "workers": {}}


@dataclasses.dataclass(frozen=True)
class Job:
    """The common part of the calls of a study: recipe (see `transfer`), folders, and origin."""

    payload: tuple
    folder: str
    recording: Recording
    workdir: str
    origin: tuple[str, int]
    backend: str = dataclasses.field(default_factory=keras.backend.backend)
    versions: tuple[str, str] = (__version__, keras.__version__)


def execute(job, run, token):
    """Executes a run; returns its result, or the reason why there is none."""
    del token
    with _turn:
        try:
            with preemption.deferred_signals():
                return _execute(job, run)
        # Ctrl-C may reach this process and not the study's, which then repeats the call.
        except (preemption.PreemptedError, KeyboardInterrupt):
            return {"status": STOPPED, "message": "it was asked to stop"}
        # As data: not every exception can be unpickled elsewhere.
        except Exception as error:
            kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), None)
            message = one_line(error) if kind else error_text(error)
            return {"status": ERROR, "kind": kind, "message": message}
        finally:
            _state["alive"] = None


def _execute(job, run):
    _check(job)
    _state["alive"] = pathlib.Path(job.folder, ALIVE)
    if job.folder not in _state["workers"]:
        _state["workers"] = {job.folder: _make_worker(job)}  # the last one only, to save memory
    return _state["workers"][job.folder].execute(run, lambda steps: None)


def _check(job):
    """Raises unless this process can give the results of the one that called."""
    if not pathlib.Path(job.folder, ALIVE).exists():
        raise ValueError(
            "`workdir` must be a folder that all processes of the executor see. Received: "
            f"workdir={job.workdir!r}, which is missing or another one on {platform.node()}. Use "
            "a path on a shared file system."
        )
    versions = __version__, keras.__version__
    if (keras.backend.backend(), *versions) != (job.backend, *job.versions):
        raise ValueError(
            "`executor` must have processes with the same Keras backend and the same versions of "
            f"keras_svag and Keras: {job.backend}, {', '.join(job.versions)}. Received: "
            f"{keras.backend.backend()}, {', '.join(versions)} on {platform.node()}. Start them "
            f"with KERAS_BACKEND={job.backend} and the same packages."
        )


def _make_worker(job):
    _watch()
    if job.origin != (platform.node(), os.getpid()):
        # As in worker processes, so that sums are in the same order.
        with contextlib.suppress(RuntimeError):  # TensorFlow is in use already
            limit_threads(1)
    return Worker(transfer.unpack(job.payload), job.recording, pathlib.Path(job.workdir))


@functools.cache  # once in a process
def _watch():
    """Stops runs after a checkpoint once nobody waits for their results."""
    preemption.add_source(_abandoned)


def _abandoned():
    alive = _state["alive"]
    return 0 if alive is None or alive.exists() else signal.SIGTERM
