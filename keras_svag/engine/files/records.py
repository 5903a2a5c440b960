"""Files of a study: written whole or not at all, and read back without executing anything."""

import contextlib
import json
import os
import pathlib
import secrets

from keras_svag._json import to_json

# In the names of files that are being written; a process that is killed leaves them.
TEMPORARY = ".tmp."


class WriteError(OSError):
    """Raised when a file of a study cannot be written: disk full, folder read-only."""


class DamagedError(ValueError):
    """Raised when a file of a study is not what was written."""


@contextlib.contextmanager
def writing(path):
    """Context in which an `OSError` becomes a `WriteError` that says what to do.

    Args:
        path: the file that is written.

    Raises:
        WriteError: if writing fails.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(
            f"`{path}` could not be written: {error.strerror or error}. Files that were there are "
            "as they were. Free some space, or use a --workdir that you may write to; the same "
            "command then goes on from the last checkpoints."
        ) from error


@contextlib.contextmanager
def atomic_path(path, backup=None, sync=True):
    """Context that gives a temporary path and moves it to `path` on success.

    Args:
        path: where the file shall be.
        backup: where a file that is replaced shall go. Defaults to `None`: nowhere.
        sync: whether to wait until the file is on the disk, so that it outlives a crash of the
            machine as well. Defaults to `True`.

    Yields:
        A `pathlib.Path` in the same folder, to write to.

    Raises:
        WriteError: if writing fails.
    """
    path = pathlib.Path(path)
    # Not `tempfile`: its files cannot be read by others, and reports are there to be shared.
    # Processes of two machines may have one number. The end of the name stays: Keras looks at it.
    unique = f"{os.getpid()}.{secrets.token_hex(4)}"
    temporary = path.with_name(f".{unique}{TEMPORARY}{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                _sync(temporary)
            if backup is not None and path.exists():
                os.replace(path, backup)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _sync(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def remove_temporaries(folder):
    """Removes what killed processes were writing in a folder that nobody else writes to now."""
    for path in pathlib.Path(folder).glob(f"**/.*{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path, text, sync=True):
    """Writes a text file atomically; see `atomic_path` for `sync`."""
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes a JSON file atomically; numbers that are not finite become `null`."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Reads a JSON file, or returns `None` if there is none.

    Raises:
        DamagedError: if it is not JSON.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from error


def write_jsonl(path, rows):
    """Writes one JSON object a line, atomically."""
    # Checkpoints hold the rows too, and wait for the disk.
    write_text(path, to_jsonl(rows), sync=False)


def to_jsonl(rows):
    """The text of one JSON object a line."""
    return "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)


def read_jsonl(path):
    """Reads a file of one JSON object a line; an empty list if there is none.

    Raises:
        DamagedError: if a line is not a JSON object, as after the file was cut short.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise damaged(path, error) from error
    if not all(isinstance(row, dict) for row in rows):
        raise damaged(path, "a line is not a JSON object")
    return rows


def damaged(path, error):
    """The error for a file that is not what was written."""
    return DamagedError(
        f"`{path}` is damaged: {error}. Restore it, or move it away and give the same command "
        "again, which then writes it anew."
    )
