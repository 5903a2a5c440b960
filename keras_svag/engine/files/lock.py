"""A file lock that is released even if its holder is killed.

The lock is the operating system's (`flock`, or `LockFileEx` on Windows). On Linux it also holds
between machines on an NFS mount, if the server and the mount options allow locks.
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
    """Context that yields True if this process got the lock, or if the file system has none."""
    path = pathlib.Path(path)
    # No fallback to a soft lock, which would outlive a killed process.
    lock = filelock.FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        with records.writing(path):
            # Not its parents, so that a workdir that was moved is not made again.
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(exist_ok=True)
            try:
                stack.enter_context(lock)
                held = True
            except filelock.Timeout:
                held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"Files in {path.parent} cannot be locked ({error.strerror}), so two processes "
                    "could execute the same run. Use --shard to keep them apart.",
                    stacklevel=4,
                )
                held = True
        yield held
