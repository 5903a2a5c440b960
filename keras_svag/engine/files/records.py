"""Files of a study, written atomically, and read without executing anything."""

import contextlib
import errno
import hashlib
import json

from keras_svag._json import to_json
from keras_svag.engine.files import remote, storage

SEAL = "sha256"


class WriteError(OSError):
    """Raised when a file of a study cannot be written: disk full, read-only folder."""


class ReadOnlyError(WriteError):
    """Raised when a file cannot be written because its folder is read-only."""


class DamagedError(ValueError):
    """Raised when a file of a study is corrupt; `problem` says how."""

    path = problem = None


_FREE_SPACE = "Free some space or use another --workdir"
_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        (ReadOnlyError, "Make the folder writable, or use a writable copy of it as --workdir"),
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ESTALE),
        (WriteError, "The folder was moved or deleted: use its new path as --workdir"),
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY),
        (WriteError, "Move away what is in its place"),
    ),
}


@contextlib.contextmanager
def writing(path):
    """Context manager that re-raises an `OSError` as a `WriteError` with a remedy."""
    try:
        yield
    except (WriteError, remote.ReadError):
        raise
    except OSError as error:
        kind, remedy = _REMEDIES.get(error.errno, (WriteError, _FREE_SPACE))
        if isinstance(path, remote.RemotePath):
            kind, remedy = WriteError, "Check bucket, credentials and network"
        raise kind(
            f"`{path}` could not be written: {error.strerror or error}. Existing files are "
            f"unchanged. {remedy}, then repeat the command: it resumes from the last checkpoints."
        ) from error


def write_bytes(path, content, sync=True, backup=None):
    """Writes a file atomically; `sync` and `backup` as in `storage.write`."""
    with writing(path):
        storage.write(path, content, sync, backup)


def make_folder(folder, parents=False):
    """Makes a folder, unless it exists."""
    with writing(folder):
        storage.make_folder(folder, parents)


def write_text(path, text, sync=True):
    """Writes a text file atomically."""
    write_bytes(path, text.encode("utf-8"), sync)


def write_json(path, value):
    """Writes a JSON file atomically; non-finite numbers become `null`."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Reads a JSON file; `None` if there is none."""
    text = _read_text(path)
    return None if text is None else _parse(path, text)


def update_json(path, value):
    """Writes a JSON file unless it holds that already: its date says since when it has."""
    value = to_json(value)
    with contextlib.suppress(DamagedError):
        if read_json(path) == value:
            return
    write_json(path, value)


def write_sealed(path, content):
    """Writes a dict to a JSON file, with the SHA-256 of all other entries."""
    content = to_json(content)
    write_json(path, content | {SEAL: _seal(content)})


def read_sealed(path):
    """Reads what `write_sealed` wrote; `None` if there is no file."""
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict) or SEAL not in content:
        raise damaged(path, f"it is not as it was written, with a {SEAL}")
    if content.pop(SEAL) != _seal(content):
        raise damaged(path, f"its {SEAL} is not that of its content")
    return content


def _seal(content):
    return sha256(json.dumps(content, sort_keys=True).encode())


def sha256(content):
    """SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path):
    """Reads a file; `None` if there is none."""
    try:
        return storage.read(path)
    except OSError as error:
        raise damaged(path, error.strerror or error) from error


def _read_text(path):
    content = read_bytes(path)
    try:
        return None if content is None else content.decode("utf-8")
    except ValueError as error:
        raise damaged(path, error) from error


def _parse(path, text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def write_jsonl(path, rows, sync=False):
    """Writes one JSON object per line, atomically."""
    # By default no fsync: checkpoints hold the rows too, and are synced.
    write_text(path, to_jsonl(rows), sync)


def to_jsonl(rows):
    """Formats rows as one JSON object per line."""
    return "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)


def read_jsonl(path):
    """Reads one JSON object per line; an empty list if there is no file."""
    return parse_jsonl(path, _read_text(path) or "")


def parse_jsonl(path, text):
    """Parses one JSON object per line of the text of a file."""
    rows = [_parse(path, line) for line in text.splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise damaged(path, "a line is not a JSON object")
    return rows


def damaged(path, problem):
    """The error for a corrupt file."""
    error = DamagedError(
        f"`{path}` is damaged: {problem}. Restore it, or move it away and repeat the command, "
        "which writes it again."
    )
    error.path, error.problem = path, problem
    return error
