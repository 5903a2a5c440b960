"""Files of a study: written whole or not at all, and read back without executing anything."""

import contextlib
import json
import os
import pathlib

import numpy as np

from keras_svag._json import to_json


@contextlib.contextmanager
def atomic_path(path):
    """Context that gives a temporary path and moves it to `path` on success.

    Args:
        path: where the file shall be.

    Yields:
        A `pathlib.Path` in the same folder, to write to.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files cannot be read by others, and reports are there to be shared.
    # The end of the name stays: Keras looks at it.
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Writes a JSON file atomically; numbers that are not finite become `null`."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Reads a JSON file, or returns `None` if there is none."""
    path = pathlib.Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_jsonl(path, rows):
    """Writes one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows))


def read_jsonl(path):
    """Reads a file of one JSON object a line; an empty list if there is none."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def save_arrays(path, groups, **numbers):
    """Writes named lists of arrays and some numbers to one `.npz` file, atomically.

    Args:
        path: where the file shall be.
        groups: dict from name to list of arrays.
        **numbers: ints or floats.
    """
    arrays = {f"{name}/{i}": a for name, group in groups.items() for i, a in enumerate(group)}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, **{f"number/{name}": n for name, n in numbers.items()})


def load_arrays(path, names):
    """Reads what `save_arrays` wrote.

    Args:
        path: the file.
        names: names of the groups.

    Returns:
        A tuple `(groups, numbers)`, or `None` if there is no file.
    """
    if not pathlib.Path(path).exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        groups = {
            name: [file[f"{name}/{i}"] for i in range(_group_size(file.files, name))]
            for name in names
        }
        numbers = {
            key.removeprefix("number/"): file[key].item()
            for key in file.files
            if key.startswith("number/")
        }
    return groups, numbers


def _group_size(keys, name):
    return sum(key.startswith(f"{name}/") for key in keys)
