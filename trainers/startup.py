"""What every program does first: signals and closed streams.

Imports only the standard library, so that a signal meets a handler from the first moment on:
importing TensorFlow or JAX takes seconds.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import threading

from . import quiet

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

# Paths of sockets have at most 107 characters; some 60 come after the parent folder.
MAX_SOCKET_PARENT = 45

_has_begun = False
_received = []
_handler = None
_folders = []


def begin():
    """Until `forward_signals`, a signal ends the process at once; call it in the main thread."""
    global _has_begun
    if _has_begun:
        return
    _has_begun = True
    _open_streams()
    # What is ignored stays ignored: SIGHUP under `nohup`, SIGINT of a background job.
    signals = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    for signum in signals:
        signal.signal(signum, lambda signum, frame: _receive(signum))
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        # Blocked in all threads but one, which acts even while the main thread compiles. Processes
        # that this one starts inherit the mask. The handlers are for the moments in which
        # `multiprocessing` unblocks signals.
        block_signals()
        threading.Thread(target=_wait, args=(signals,), daemon=True).start()


def block_signals():
    """Blocks the signals in this thread, and in threads and processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def forward_signals(handler):
    """Calls `handler(signum)` on signals from now on; only a second Ctrl-C ends the process."""
    global _handler
    _handler = handler


def start_fork_server():
    """Starts the parent process of all workers, which imports while this process does."""
    if sys.platform != "linux":
        return  # other platforms have libraries that do not survive a fork
    # Not at the top: `multiprocessing` removes its folders after those registered in `begin`.
    import multiprocessing.forkserver
    import multiprocessing.resource_tracker
    import multiprocessing.util

    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(
        [f"{__package__}.fork_server", "keras_svag.engine.processes.worker"]
    )
    before = tempfile.tempdir
    tempfile.tempdir = socket_folder()
    try:
        multiprocessing.util.get_temp_dir()  # from now on that of this process
    finally:
        tempfile.tempdir = before
    # It inherits blocked signals. Those to the whole process group must not end it.
    multiprocessing.resource_tracker.ensure_running()
    block_signals()  # unblocked by the line before
    multiprocessing.forkserver.ensure_running()


def socket_folder():
    """Returns a new folder for sockets, removed at the end or, after SIGKILL, by the next study."""
    import fcntl  # not on Windows
    from multiprocessing import util

    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= MAX_SOCKET_PARENT else "/tmp"
    folder = tempfile.mkdtemp(prefix="keras_svag.tmp.", dir=parent)  # see keras_svag/_scratch.py
    _folders.append(folder)
    # At -100 `multiprocessing` removes its own folder, which is inside.
    util.Finalize(None, _remove_folders, exitpriority=-200)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends
    return folder


def _remove_folders():
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(signals):
    while True:
        _receive(signal.sigwait(signals))


def _receive(signum):
    _received.append(signum)
    if _handler is None:
        _exit(signum, "Repeat the command.")
    elif _received.count(signal.SIGINT) > 1:
        _exit(signum, "The same command resumes from the last checkpoints.")
    else:
        _handler(signum)


def _exit(signum, advice):
    # A progress bar ends without a line break.
    start = "\n" if os.isatty(quiet.errors) else ""
    line = f"{start}Ended at once ({signal.Signals(signum).name}). {advice}\n"
    with contextlib.suppress(OSError):
        os.write(quiet.errors, line.encode())
    _remove_folders()
    # Nothing waits for this process: files are written atomically, and its workers follow it.
    os._exit(130 if signum == signal.SIGINT else 75)


def _open_streams():
    """Makes standard streams that are closed, or that will be, lead nowhere."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes this number. Otherwise a file of the study would get it, and C++ logs with it.
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)
        setattr(sys, name, _Stream(stream))


class _Stream(io.TextIOBase):
    """A stream whose errors are ignored: the reader of a pipe went away, a disk is full."""

    def __init__(self, stream):
        super().__init__()
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    encoding = property(lambda self: self._stream.encoding)
    errors = property(lambda self: self._stream.errors)

    def write(self, text):
        try:
            self._stream.write(text)
        except OSError:
            self._abandon()
        return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except OSError:
            self._abandon()

    def fileno(self):
        return self._stream.fileno()

    def isatty(self):
        return self._stream.isatty()

    def writable(self):
        return True

    def _abandon(self):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
