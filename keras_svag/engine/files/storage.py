"""The only module that writes, renames, removes and lists the files of a study.

Except locks, and the arrays that an executor shares for the time of a call.

A file takes its place by an atomic replacement, so it is whole or not there; nothing seeks. What
was written with `sync`, and the folders above it, survive a crash of the machine. Errors are those
of the operating system. Another place to store files needs these functions and no others: `remote`
has them for object stores.
"""

import contextlib
import functools
import os
import pathlib
import secrets
import socket
import stat
import time
import zlib

from keras_svag._checks import local_folder
from keras_svag.engine.files import remote

# Marks files that are being written; killed processes leave them behind.
TEMPORARY = ".tmp."
# No file takes this long to write.
ABANDONED_SECONDS = 24 * 3600


class LocalFiles:
    """Elementary operations on local files; a test can record them and crash in between."""

    def write(self, path, content):
        """Writes a new file, which may be lost in a crash."""
        with open(path, "wb") as file:
            file.write(content)

    def append(self, path, content):
        """Appends to a file, which may be lost in a crash."""
        with open(path, "ab") as file:
            file.write(content)

    def sync(self, path):
        """Flushes the content of a file to the disk."""
        with open(path, "rb+") as file:
            os.fsync(file.fileno())

    def replace(self, source, target):
        """Renames a file, replacing another one atomically."""
        os.replace(source, target)

    def remove(self, path):
        """Removes a file."""
        os.unlink(path)

    def make_folder(self, folder):
        """Makes a folder."""
        os.mkdir(folder)

    def sync_folder(self, folder):
        """Flushes the names in a folder to the disk, which renames and new files need."""
        # Windows opens no folders, and some network file systems sync none.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


files = LocalFiles()


def to_path(folder, name="workdir"):
    """The path of a local folder, with `~` expanded, or of one in an object store."""
    if isinstance(folder, remote.RemotePath):
        return folder
    return remote.to_path(folder) if remote.is_url(folder) else local_folder(name, folder)


def is_private(path):
    """Returns True if only this process sees the files."""
    return isinstance(path, remote.RemotePath) and remote.is_private(path)


@functools.singledispatch
def read(path):
    """The content of a file as bytes; `None` if there is none."""
    try:
        # Asked first: opening a FIFO would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IsADirectoryError(0, "it is not a regular file")
        return pathlib.Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


@functools.singledispatch
def exists(path):
    """Returns True if there is a file or folder."""
    return os.path.exists(path)


@functools.singledispatch
def is_folder(path):
    """Returns True if there is a folder."""
    return os.path.isdir(path)


@functools.singledispatch
def find(folder, pattern):
    """Sorted paths below a folder that match a pattern such as `*/result.json`."""
    return sorted(pathlib.Path(folder).glob(pattern))


@functools.singledispatch
def sizes(folder):
    """Sizes of all files below a folder, by their names in it."""
    files = [path for path in find(folder, "**/*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


@functools.singledispatch
def modified(path):
    """Time of the last change, in seconds since the epoch."""
    return os.stat(path).st_mtime


@functools.singledispatch
def write(path, content, sync=True, backup=None):
    """Replaces a file by new content (bytes) atomically; the old file is moved to `backup`."""
    path = pathlib.Path(path)
    temporary = temporary_path(path)
    try:
        files.write(temporary, content)
        if sync:
            files.sync(temporary)
        if backup is not None and path.exists():
            files.replace(path, backup)
        files.replace(temporary, path)
        if sync:
            files.sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            files.remove(temporary)
        raise


def temporary_path(path):
    """A new path beside another, which names this process."""
    # Not `tempfile`, whose files only their owner can read.
    unique = f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    return path.with_name(f".{unique}{TEMPORARY}{path.name}")


@functools.singledispatch
def append(path, content):
    """Appends bytes to a file; not atomic."""
    files.append(path, content)


@functools.singledispatch
def sync(path):
    """Flushes a file and its name to the disk."""
    files.sync(path)
    files.sync_folder(pathlib.Path(path).parent)


@functools.singledispatch
def remove(path):
    """Removes a file, if it exists; it does not come back after a crash of the machine."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(path)
        files.sync_folder(pathlib.Path(path).parent)


@functools.singledispatch
def make_folder(folder, parents=False):
    """Makes a folder, unless it exists; also those above it with `parents`."""
    folder = pathlib.Path(folder)
    if folder.is_dir():
        return
    if parents:
        make_folder(folder.parent, parents=True)
    try:
        files.make_folder(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
    files.sync_folder(folder.parent)


def remove_temporaries(folder):
    """Removes what killed processes were writing in a folder, and nobody else's files."""
    for path in find(folder, f"**/.*{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if _is_abandoned(path):
                remove(path)


def _is_abandoned(temporary):
    """Returns True if the process that wrote a temporary file has ended, or must have."""
    return has_ended(temporary) or time.time() - modified(temporary) > ABANDONED_SECONDS


def has_ended(temporary):
    """Returns True if a temporary file is of a process of this machine that has ended."""
    machine, pid, *_ = temporary.name.removeprefix(".").split(".")
    return machine == _machine() and pid.isdigit() and not _is_alive(int(pid))


def _is_alive(pid):
    if os.name != "posix":  # where signal 0 ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return True


@functools.lru_cache(maxsize=1)
def _machine():
    """A number of this machine since its start, and of its container, which have pids apart."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


# Those that touch files, for paths in object stores.
read.register(remote.RemotePath, remote.read)
exists.register(remote.RemotePath, remote.exists)
is_folder.register(remote.RemotePath, remote.is_folder)
find.register(remote.RemotePath, remote.find)
sizes.register(remote.RemotePath, remote.sizes)
modified.register(remote.RemotePath, remote.modified)
write.register(remote.RemotePath, remote.write)
append.register(remote.RemotePath, remote.append)
sync.register(remote.RemotePath, remote.sync)
remove.register(remote.RemotePath, remote.remove)
make_folder.register(remote.RemotePath, remote.make_folder)
