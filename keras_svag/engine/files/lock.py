"""A lock that is released even if its holder is killed.

In an object store it is a claim. On local files it is the operating system's (`flock`, or
`LockFileEx` on Windows). On Linux that also holds between machines on an NFS mount, if the server
and the mount options allow locks.
"""

import contextlib
import errno
import warnings

import filelock

from keras_svag.engine.files import claims, records, remote, storage

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def acquire(path, wait=False):
    """Context that yields True if this process got the lock, or if the file system has none."""
    if isinstance(path, remote.RemotePath):
        with claims.acquire(path, wait) as held:
            yield held
        return
    # No fallback to a soft lock, which would outlive a killed process.
    lock = filelock.FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        with records.writing(path):
            storage.make_folder(path.parent, parents=True)
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
