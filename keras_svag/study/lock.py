"""A lock between processes that ends with the process that holds it, in whatever way that ends.

On POSIX systems it is `flock`; Linux makes it hold between the machines of an NFS mount too, if the
server and the mount options allow locks. Where there are none (Windows, a mount with `nolock`) a
lock is always granted, and only `--shard` keeps processes apart.
"""

import contextlib
import os
import pathlib
import warnings

from keras_svag.study import records

try:
    import fcntl
except ImportError:
    fcntl = None


@contextlib.contextmanager
def hold(path, wait=False):
    """Context in which this process holds a lock, if it got it.

    Args:
        path: the file that stands for the lock; it is there only while the lock is held, or after
            its holder was killed, which does not matter.
        wait: whether to wait for another process. Defaults to `False`.

    Yields:
        Whether the lock is held.

    Raises:
        WriteError: if the file cannot be made.
    """
    if fcntl is None:
        yield True
        return
    path = pathlib.Path(path)
    with records.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _acquire(path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        # While it is still held: nobody else can have this file locked.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)


def _acquire(path, how):
    """The open, locked file, or `None` if another process has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as error:
            warnings.warn(
                f"Files in {path.parent} cannot be locked ({error.strerror}): two processes might "
                "do the same run there. Use --shard to keep them apart.",
                stacklevel=3,
            )
            return file
        if _is_at(path, file):
            return file
        # Its holder removed it in between.
        os.close(file)


def _is_at(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
