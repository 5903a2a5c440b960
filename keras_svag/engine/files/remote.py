"""Files of a study in an object store, such as `gs://bucket/folder`, by fsspec.

A write is one request, after which the object is there whole and for good, or nothing has changed.
There are no folders, no renames, no appending and no locks (see `claims`).
"""

import contextlib
import functools
import os
import pathlib
import re
import time

# By scheme, the package that fsspec needs. Stores that replace an object atomically, and list at
# once what was written: the promises of docs/faults.md rest on both.
PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "memory": "fsspec"}
# Two letters or more before the colon: `C:/` is a drive. One slash is what `pathlib` leaves of two.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<bucket>[^/]*)")
# Stores bill each request, and GCS takes about one write a second to an object.
FLUSH_SECONDS = 30


class ReadError(OSError):
    """Raised when an object store cannot be read."""


class RemotePath(pathlib.PurePosixPath):
    """Path in an object store, whose text is its URL."""

    def __str__(self):
        scheme, colon, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if colon else scheme


def is_url(path):
    """Returns True for the URL of a remote folder, as a string or path."""
    return isinstance(path, (str, os.PathLike)) and _URL.match(str(path)) is not None


def to_path(url):
    """The path of a URL; raises a `ValueError` if it cannot be one of a study."""
    url = os.fspath(url)
    scheme, bucket = _URL.match(url).group("scheme", "bucket")
    if scheme not in PACKAGES:
        raise ValueError(
            "`workdir` must be a local folder, or one in an object store that starts with gs:// or "
            f"s3://. Received: workdir={url!r}. Use another workdir."
        )
    if not bucket:
        raise ValueError(
            f"`workdir` must name a bucket, such as {scheme}://bucket/folder. "
            f"Received: workdir={url!r}."
        )
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ValueError(
            f"`workdir` in {scheme}:// needs the package {PACKAGES[scheme]}, which cannot be "
            f"imported ({error.__cause__ or error}). Received: workdir={url!r}. Install it: "
            "pip install 'keras-svag[remote]'"
        ) from error
    return RemotePath(url)


def is_private(path):
    """Returns True if only this process sees the files."""
    return path.parts[0] == "memory:"


@functools.cache
def _file_system(scheme):
    import fsspec

    # Other processes write too, so nothing may be remembered of an earlier listing.
    return fsspec.filesystem(scheme, use_listings_cache=False)


def _call(method, path, *arguments, **options):
    """Calls a method of the file system; its errors are `OSError`s."""
    try:
        store = _file_system(path.parts[0].removesuffix(":"))
        return getattr(store, method)(str(path), *arguments, **options)
    except OSError:
        raise
    except Exception as error:  # of the libraries below fsspec, each has its own
        raise OSError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


@contextlib.contextmanager
def _reading(path):
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ReadError(
            f"`{path}` could not be read: {error.strerror or error}. Check bucket, credentials and "
            "network, then repeat the command: a study resumes from its last checkpoints."
        ) from error


def read(path):
    """The content of an object as bytes; `None` if there is none."""
    with contextlib.suppress(FileNotFoundError), _reading(path):
        return _call("cat_file", path)
    return None


def exists(path):
    """Returns True if there is an object, or one below."""
    return _type(path) is not None


def is_folder(path):
    """Returns True if there is an object below."""
    return _type(path) == "directory"


def _type(path):
    # Not the `exists` of fsspec, which takes any error for a no.
    with contextlib.suppress(FileNotFoundError), _reading(path):
        return _call("info", path)["type"]
    return None


def modified(path):
    """Time of the last change by the clock of the store, in seconds since the epoch."""
    with _reading(path):
        return _call("modified", path).timestamp()


def find(folder, pattern):
    """Sorted paths of objects below a folder that match a pattern."""
    from fsspec.utils import glob_translate

    # One listing; the `glob` of fsspec makes one for each folder.
    matches = re.compile(glob_translate(pattern)).match
    return sorted(folder / name for name in sizes(folder) if matches(name))


def sizes(folder):
    """Sizes of all objects below a folder, by their names in it."""
    with contextlib.suppress(FileNotFoundError), _reading(folder):
        found = _call("find", folder, detail=True).values()
        # Without the scheme, and in memory with a slash before the bucket.
        prefix = "/".join(folder.parts[1:]) + "/"
        return {info["name"].lstrip("/").removeprefix(prefix): info["size"] for info in found}
    return {}


_appended = {}


def write(path, content, sync=True, backup=None):
    """Replaces an object atomically; the old one is copied to `backup`."""
    _appended.pop(path, None)
    if backup is not None:
        with contextlib.suppress(FileNotFoundError):
            _call("cp_file", path, str(backup))
    try:
        _call("pipe_file", path, bytes(content))
    except FileNotFoundError as error:
        raise OSError(f"there is no bucket {path.parts[1]!r}") from error


def append(path, content):
    """Appends bytes, which are written with those of the next half minute, or by `sync`."""
    chunks, due = _appended.setdefault(path, ([], time.monotonic() + FLUSH_SECONDS))
    chunks.append(content)
    if time.monotonic() >= due:
        sync(path)


def sync(path):
    """Writes what was appended."""
    chunks, _ = _appended.pop(path, ([], None))
    if chunks:
        write(path, b"".join([read(path) or b"", *chunks]))


def remove(path):
    """Removes an object, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        _call("rm_file", path)


def make_folder(folder, parents=False):
    """Does nothing: a folder is there as soon as an object is."""
