"""A file lock that is released even if its holder is killed.

The lock is the operating system's (`flock`, or `LockFileEx` on Windows), by the package filelock.
Linux makes it hold between the machines of an NFS mount too, if the server and the mount options
allow locks. Where a file system has none, a lock is granted with a warning, and only `--shard`
keeps processes apart.
"""

import contextlib
import errno
import pathlib
import warnings

import filelock

from keras_svag.engine.files import records

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def acquire(path, wait=False):
    """Context in which this process holds a lock, if it got it.

    Args:
        path: the file that stands for the lock; it is empty and stays.
        wait: whether to wait for another process. Defaults to `False`.

    Yields:
        Whether the lock is held.

    Raises:
        WriteError: if the file cannot be made.
    """
    path = pathlib.Path(path)
    # Not a soft lock where there are no others: it would outlive a process that is killed.
    lock = filelock.FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        with records.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock)
                held = True
            except filelock.Timeout:
                held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"Files in {path.parent} cannot be locked ({error.strerror}): two processes "
                    "might do the same run there. Use --shard to keep them apart.",
                    stacklevel=4,
                )
                held = True
        yield held
