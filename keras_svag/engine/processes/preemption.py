"""SIGTERM, as schedulers send it before they take a machine away: checkpoint first, then end."""

import signal
import threading

from keras_svag.distribution import any_process

# EX_TEMPFAIL of sysexits.h, "try again later". Not 143, which shells report of any process that
# SIGTERM has killed: this one says that the checkpoints are written.
EXIT_CODE = 75

_requested = threading.Event()
_sources = [_requested.is_set]


class PreemptedError(RuntimeError):
    """Raised in a study, after the checkpoints are written, when the process was asked to end."""

    def __init__(self, message="The study was asked to end (SIGTERM)."):
        super().__init__(message)


def install_handler():
    """Makes SIGTERM ask studies of this process to end; call it in the main thread."""
    signal.signal(signal.SIGTERM, lambda *_: _requested.set())


def add_source(is_asked):
    """Makes studies of this process end, too, when the function `is_asked` returns True."""
    _sources.append(is_asked)


def is_requested():
    """Tells whether SIGTERM has come, or another process has asked this one to end.

    The processes of a `multi_worker` run take their steps together, so they ask together, too, and
    end together when SIGTERM has come to any of them.
    """
    return any_process(any(is_asked() for is_asked in _sources))


def raise_if_requested():
    """Raises `PreemptedError` if SIGTERM has come; for places where nothing is to be saved."""
    if is_requested():
        raise PreemptedError()
