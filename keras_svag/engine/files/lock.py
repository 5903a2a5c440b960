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

CHECK_SECONDS = 0.5
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def acquire(path, wait=False, check=lambda: None):
    """Context that yields True if this process got the lock, or if the file system has none."""
    # A wait calls `check` all the time, and ends if that raises.
    if isinstance(path, remote.RemotePath):
        with claims.acquire(path, wait, check) as held:
            yield held
        return
    # No fallback to a soft lock, which would outlive a killed process.
    lock = filelock.FileLock(path, timeout=CHECK_SECONDS * wait, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        with records.writing(path):
            # Not its parents, so that a workdir that was moved is not made again.
            for folder in (path.parent.parent, path.parent):
                storage.make_folder(folder)
            try:
                held = _enter(lock, stack)
                while wait and not held:
                    check()
                    held = _enter(lock, stack)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _warn_once(path.parent.stat().st_dev, error.errno, path.parent, error.strerror)
                held = True
        yield held


def _enter(lock, stack):
    with contextlib.suppress(filelock.Timeout):
        stack.enter_context(lock)
        return True
    return False


def was_refused(path):
    """Returns True if asking for the lock again so soon would only cost requests."""
    return isinstance(path, remote.RemotePath) and claims.was_refused(path)


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
