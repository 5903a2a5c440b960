"""Temporary folders; those of killed processes are removed by the next one."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PREFIX = "keras_svag.tmp."  # also in trainers/startup.py
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")  # nothing that users would choose
MIN_AGE = 60.0  # seconds; a younger one may not have its lock yet


@contextlib.contextmanager
def temporary_folder():
    """Yields a new folder, which is removed at the end."""
    remove_abandoned()
    with contextlib.ExitStack() as stack:
        new = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        folder = stack.enter_context(new)
        with contextlib.suppress(OSError):  # a file system without locks
            stack.enter_context(_lock(folder))
        yield folder


def remove_abandoned():
    """Removes the folders whose process was killed."""
    if fcntl is None:
        return
    # Where TMPDIR is too long for a socket, the fork server has its folder in /tmp.
    for parent in {tempfile.gettempdir(), "/tmp"}:
        for folder in pathlib.Path(parent).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if _NAME.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > MIN_AGE:
                    with _lock(folder):
                        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder):
    """Context that holds the lock of a folder; raises `OSError` if another process does."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
