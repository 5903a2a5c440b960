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
            # Not its parents, so that a workdir that was moved is not made again.
            for folder in (path.parent.parent, path.parent):
                storage.make_folder(folder)
            try:
                stack.enter_context(lock)
                held = True
            except filelock.Timeout:
                held = False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _warn_once(path.parent.stat().st_dev, error.errno, path.parent, error.strerror)
                held = True
        yield held


_warned = set()


def _warn_once(device, code, folder, reason):
    """Warns that a file system has no locks, once rather than for each run."""
    if (device, code) not in _warned:
        _warned.add((device, code))
        warnings.warn(
            f"Files in `{folder}` cannot be locked ({reason}), so two processes could execute the "
            "same run. Use --shard to keep them apart.",
            stacklevel=5,
        )
