"""A folder shared by the processes of a run, to which the first one writes."""

import contextlib
import pathlib
import shutil
import zlib

from keras_svag._scratch import temporary_folder
from keras_svag.distribution.placement import backend
from keras_svag.distribution.processes import is_chief


@contextlib.contextmanager
def process_workdir(workdir):
    """Yields the folder for the first process, and a temporary copy for each other one."""
    if backend.num_processes() == 1:
        yield workdir
        return
    with temporary_folder() as temporary:
        copy = pathlib.Path(temporary) / "workdir"
        if not is_chief() and pathlib.Path(workdir).is_dir():
            shutil.copytree(workdir, copy)
        # All processes wait here, so that nothing changes while others copy.
        fingerprints = backend.gather(_fingerprint(workdir))
        if len(set(fingerprints)) > 1:
            raise ValueError(
                "`workdir` must have the same files on all processes. Received: "
                f"workdir={str(workdir)!r}, which differs between {len(fingerprints)} processes. "
                "Use a folder on a shared file system that no other job is writing to."
            )
        yield workdir if is_chief() else copy


def _fingerprint(folder):
    """Returns a checksum of the names and sizes of the files in a folder."""
    folder = pathlib.Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    return zlib.crc32(repr(listing).encode())
