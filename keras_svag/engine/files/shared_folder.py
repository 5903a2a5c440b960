"""A folder shared by the processes of a run, to which the first one writes."""

import contextlib
import pathlib
import zlib

from keras_svag._scratch import temporary_folder
from keras_svag.distribution import gather, is_chief, num_processes
from keras_svag.engine.files import storage


@contextlib.contextmanager
def process_workdir(workdir):
    """Yields the folder for the first process, and a temporary copy for each other one."""
    if num_processes() == 1:
        yield workdir
        return
    folder = storage.to_path(workdir)
    with temporary_folder() as temporary:
        copy = pathlib.Path(temporary) / "workdir"
        sizes = storage.sizes(folder)
        if not is_chief():
            _copy(folder, sizes, copy)
        # All processes wait here, so that nothing changes while others copy.
        fingerprints = gather(_fingerprint(sizes))
        if len(set(fingerprints)) > 1:
            raise ValueError(
                "`workdir` must have the same files on all processes. Received: "
                f"workdir={str(workdir)!r}, which differs between {len(fingerprints)} processes. "
                "Use a folder on a shared file system that no other job is writing to."
            )
        yield workdir if is_chief() else copy


def _copy(folder, names, copy):
    for name in names:
        storage.make_folder((copy / name).parent, parents=True)
        storage.write(copy / name, storage.read(folder / name) or b"", sync=False)


def _fingerprint(sizes):
    """Returns a checksum of the names and sizes of the files in a folder."""
    return zlib.crc32(repr(sorted(sizes.items())).encode())
