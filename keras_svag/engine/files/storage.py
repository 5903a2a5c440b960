"""The only module that writes, renames, removes and lists the files of a study.

A file takes its place by an atomic replacement, so it is whole or not there; nothing seeks. What
was written with `sync`, and the folders above it, survive a crash of the machine. Errors are those
of the operating system. Another place to store files needs these functions and no others.
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


def read(path):
    """The content of a file as bytes; `None` if there is none."""
    try:
        # Asked first: opening a FIFO would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IsADirectoryError(0, "it is not a regular file")
        return pathlib.Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(path):
    """Returns True if there is a file or folder."""
    return os.path.exists(path)


def find(folder, pattern):
    """Sorted paths below a folder that match a pattern such as `*/result.json`."""
    return sorted(pathlib.Path(folder).glob(pattern))


def modified(path):
    """Time of the last change, in seconds since the epoch."""
    return os.stat(path).st_mtime


def write(path, content, sync=True, backup=None):
    """Replaces a file by new content (bytes) atomically; the old file is moved to `backup`."""
    path = pathlib.Path(path)
    # Not `tempfile`, whose files only their owner can read.
    unique = f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    temporary = path.with_name(f".{unique}{TEMPORARY}{path.name}")
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


def append(path, content):
    """Appends bytes to a file; not atomic."""
    files.append(path, content)


def sync(path):
    """Flushes a file and its name to the disk."""
    files.sync(path)
    files.sync_folder(pathlib.Path(path).parent)


def remove(path):
    """Removes a file, if it exists; it does not come back after a crash of the machine."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(path)
        files.sync_folder(pathlib.Path(path).parent)


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
                files.remove(path)


def _is_abandoned(temporary):
    """Returns True if the process that wrote a temporary file has ended, or must have."""
    machine, pid, *_ = temporary.name.removeprefix(".").split(".")
    if machine == _machine() and pid.isdigit() and not _is_alive(int(pid)):
        return True
    return time.time() - modified(temporary) > ABANDONED_SECONDS


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
