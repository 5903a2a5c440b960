"""One folder for a run of several processes: the first one writes, the others read along."""

import contextlib
import pathlib
import shutil
import tempfile
import zlib

from keras_svag.distribution.placement import backend
from keras_svag.distribution.processes import is_chief


@contextlib.contextmanager
def process_workdir(workdir):
    """Context that gives each process the folder that it may write to."""
    if backend.num_processes() == 1:
        yield workdir
        return
    with tempfile.TemporaryDirectory(prefix="keras_svag_") as temporary:
        copy = pathlib.Path(temporary) / "workdir"
        if not is_chief() and pathlib.Path(workdir).is_dir():
            shutil.copytree(workdir, copy)
        # Everybody waits here, so that nothing changes while others copy.
        seen = backend.gather(_fingerprint(workdir))
        if len(set(seen)) > 1:
            raise ValueError(
                "`workdir` must be a folder that all processes see, with the same files. Received: "
                f"workdir={str(workdir)!r}, whose content differs between {len(seen)} processes. "
                "Use a folder on a shared file system; if it is on one, another job may be at work "
                "there: wait for its end."
            )
        yield workdir if is_chief() else copy


def _fingerprint(folder):
    """A number that stands for the names and the sizes of the files in a folder."""
    folder = pathlib.Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    return zlib.crc32(repr(listing).encode())
