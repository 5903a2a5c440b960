"""Preemption: on SIGTERM, SIGHUP or Ctrl-C, studies save checkpoints and then stop."""

import contextlib
import multiprocessing.resource_tracker
import signal
import sys
import threading

from keras_svag.distribution import max_over_processes

# EX_TEMPFAIL of sysexits.h, "try again later". Not 143, which shells report for any process that
# SIGTERM killed: this code promises that checkpoints were written.
EXIT_CODE = 75
# What shells report for a process that Ctrl-C ended.
INTERRUPT_CODE = 130

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # not on Windows

_received: list[int] = []
_sources = [lambda: _received[0] if _received else 0]


class PreemptedError(SystemExit):
    """Raised by a preempted study after its checkpoints are written.

    If nothing catches it, the process ends without a traceback and with exit code 75, or 130 after
    Ctrl-C.
    """

    def __init__(self, signum=signal.SIGTERM):
        super().__init__(signum)
        self.signum = signal.Signals(signum)
        self.code = INTERRUPT_CODE if signum == signal.SIGINT else EXIT_CODE

    def __str__(self):
        return f"The study was preempted ({self.signum.name})."


def request(signum):
    """Makes the studies of this process stop; the first signal decides the exit code."""
    _received.append(signum)


def add_source(source):
    """Adds a function that returns the signal that stops this process, or 0."""
    _sources.append(source)


def requested_signal():
    """Returns the signal that stops this process or another of its `multi_worker` job, or 0."""
    # The processes of a multi_worker job step together, so they must also stop together.
    return max_over_processes(next(filter(None, (source() for source in _sources)), 0))


def raise_if_requested():
    """Raises `PreemptedError` if requested, where there is nothing to save."""
    if signum := requested_signal():
        raise PreemptedError(signum)


@contextlib.contextmanager
def deferred_signals():
    """Context in which signals end studies after a checkpoint, in a program without handlers."""
    # Ctrl-C then raises `KeyboardInterrupt`, a second one at once, and the other signals
    # `PreemptedError`. Signals that the program handles or ignores are left to it, as are all
    # signals outside the main thread, where Python allows no handlers.
    deferred = []
    if threading.current_thread() is threading.main_thread():
        deferred = [signum for signum in SIGNALS if signal.getsignal(signum) == _default(signum)]
    for signum in deferred:
        signal.signal(signum, _defer)
    try:
        try:
            yield
        finally:
            for signum in deferred:
                signal.signal(signum, _default(signum))
            received = _forget() if deferred else []
        if received:  # too late to stop anything
            raise PreemptedError(received[0])
    except PreemptedError as error:
        if deferred and error.signum == signal.SIGINT:
            raise KeyboardInterrupt from None
        if deferred:
            print(f"{error} The same call resumes from the checkpoints.", file=sys.stderr)
        raise


def _default(signum):
    return signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL


def _defer(signum, frame):
    is_second = signum == signal.SIGINT and signum in _received
    request(signum)
    if is_second:
        raise KeyboardInterrupt


def _forget():
    received = list(_received)
    _received.clear()
    return received


@contextlib.contextmanager
def blocked_signals():
    """Context in which processes start that inherit blocked signals; none is lost meanwhile."""
    if not _CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # unblocked by the line before
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals():
    """Makes this process follow its parent, whatever signals the process group receives."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    if _CAN_BLOCK:  # they were blocked until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
