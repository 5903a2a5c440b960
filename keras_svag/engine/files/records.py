"""Files of a study, written atomically, and read without executing anything."""

import contextlib
import errno
import json
import os
import pathlib
import secrets
import stat

from keras_svag._json import to_json

# Marks files that are being written; killed processes leave them behind.
TEMPORARY = ".tmp."


class WriteError(OSError):
    """Raised when a file of a study cannot be written: disk full, read-only folder."""


class ReadOnlyError(WriteError):
    """Raised when a file cannot be written because its folder is read-only."""


class DamagedError(ValueError):
    """Raised when a file of a study is corrupt."""


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
    except WriteError:
        raise
    except OSError as error:
        kind, remedy = _REMEDIES.get(error.errno, (WriteError, _FREE_SPACE))
        raise kind(
            f"`{path}` could not be written: {error.strerror or error}. Existing files are "
            f"unchanged. {remedy}, then repeat the command: it resumes from the last checkpoints."
        ) from error


@contextlib.contextmanager
def atomic_path(path, backup=None, sync=True):
    """Yields a temporary path, moved to `path` on success; the old file is moved to `backup`."""
    path = pathlib.Path(path)
    # Not `tempfile`, whose files only their owner can read. The random part is for processes of
    # two machines with one pid. The suffix stays last: Keras chooses the format by it.
    unique = f"{os.getpid()}.{secrets.token_hex(4)}"
    temporary = path.with_name(f".{unique}{TEMPORARY}{path.name}")
    with writing(path):
        # The folder is not made here, so that a study whose workdir was moved does not go on in
        # the old place.
        try:
            yield temporary
            if sync:  # so that the file also survives a crash of the machine
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
            if backup is not None and path.exists():
                os.replace(path, backup)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_temporaries(folder):
    """Removes temporary files of killed processes in a folder that this process has locked."""
    for path in pathlib.Path(folder).glob(f"**/.*{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path, text, sync=True):
    """Writes a text file atomically; `sync` as in `atomic_path`."""
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes a JSON file atomically; non-finite numbers become `null`."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Reads a JSON file; `None` if there is none."""
    text = read_text(path)
    return None if text is None else _parse(path, text)


def read_text(path):
    """Reads a text file; `None` if there is none."""
    path = pathlib.Path(path)
    try:
        # Asked first: opening a FIFO would wait for a writer.
        if not is_regular_file(path):
            return None
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise damaged(path, error.strerror or error) from error
    except ValueError as error:
        raise damaged(path, error) from error


def is_regular_file(path):
    """Returns False if there is no such file; raises a `DamagedError` at a folder or a FIFO."""
    path = pathlib.Path(path)
    if not path.exists():
        return False
    if not stat.S_ISREG(path.stat().st_mode):
        raise damaged(path, "it is not a regular file")
    return True


def _parse(path, text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def write_jsonl(path, rows):
    """Writes one JSON object per line, atomically."""
    # No fsync: checkpoints hold the rows too, and are synced.
    write_text(path, to_jsonl(rows), sync=False)


def to_jsonl(rows):
    """Formats rows as one JSON object per line."""
    return "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)


def read_jsonl(path):
    """Reads one JSON object per line; an empty list if there is no file."""
    rows = [_parse(path, line) for line in (read_text(path) or "").splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise damaged(path, "a line is not a JSON object")
    return rows


def damaged(path, error):
    """The error for a corrupt file."""
    return DamagedError(
        f"`{path}` is damaged: {error}. Restore it, or move it away and repeat the command, which "
        "writes it again."
    )
