"""Preemption by SIGTERM, as schedulers send it: save checkpoints, then exit."""

import signal
import threading

from keras_svag.distribution import any_process

# EX_TEMPFAIL of sysexits.h, "try again later". Not 143, which shells report for any process that
# SIGTERM killed: this code promises that checkpoints were written.
EXIT_CODE = 75

_requested = threading.Event()
_sources = [_requested.is_set]


class PreemptedError(RuntimeError):
    """Raised by a preempted study after its checkpoints are written."""

    def __str__(self):
        return "The study was preempted (SIGTERM)."


def install_handler():
    """Makes SIGTERM preempt the studies of this process; call it in the main thread."""
    signal.signal(signal.SIGTERM, lambda *_: _requested.set())


def add_source(source):
    """Adds a function whose True preempts the studies of this process."""
    _sources.append(source)


def is_requested():
    """Returns True if this process, or another of its `multi_worker` job, is to stop."""
    # The processes of a multi_worker job step together, so they must also stop together.
    return any_process(any(source() for source in _sources))


def raise_if_requested():
    """Raises `PreemptedError` if requested, where there is nothing to save."""
    if is_requested():
        raise PreemptedError()
