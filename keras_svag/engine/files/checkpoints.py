"""Checkpoints of a run: the last two, each with a checksum, loaded without pickle.

A checkpoint is an `.npz` file with the arrays of the program's state, and as JSON in UTF-8 the rest
of the run, its rows among it. It is written to a temporary file, then renamed, so that there is
always an intact one.
"""

import hashlib
import io
import itertools
import json
import warnings

import numpy as np

from keras_svag._json import to_json
from keras_svag.engine.files import records, storage

LATEST, PREVIOUS = "latest.npz", "previous.npz"
FACTS, CHECKSUM = "facts", "sha256"


class CheckpointError(ValueError):
    """Raised when an intact checkpoint belongs to another run or model."""


def save(folder, groups, **facts):
    """Writes groups of arrays and JSON-compatible facts; keeps the previous checkpoint."""
    arrays = {f"{name}/{i}": a for name, group in groups.items() for i, a in enumerate(group)}
    text = json.dumps(to_json(facts), allow_nan=False)
    arrays[FACTS] = np.frombuffer(text.encode("utf-8"), np.uint8)
    checksum = np.frombuffer(_digest(arrays), np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays, **{CHECKSUM: checksum})
    records.make_folder(folder)
    records.write_bytes(folder / LATEST, content.getbuffer(), backup=folder / PREVIOUS)


def load(folder, names):
    """Returns `(groups, facts)` of the newest intact checkpoint, if any; warns of damaged ones."""
    for name in (LATEST, PREVIOUS):
        path = folder / name
        if not storage.exists(path):
            continue
        try:
            return read(path, names)
        except records.DamagedError as error:
            warnings.warn(
                f"{error} Falling back to the previous checkpoint, or to the start of the run.",
                stacklevel=2,
            )
    return None


def read(path, names):
    """Returns `(groups, facts)` of one checkpoint."""
    try:
        with np.load(io.BytesIO(storage.read(path)), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        checksum = arrays.pop(CHECKSUM).tobytes()
        if checksum != _digest(arrays):
            raise ValueError("checksum mismatch")
        facts = json.loads(arrays.pop(FACTS).tobytes().decode("utf-8"))
    # Corrupt bytes make NumPy and zipfile raise almost anything.
    except Exception as error:
        raise records.DamagedError(
            f"The checkpoint `{path}` is damaged ({type(error).__name__}: {error})."
        ) from error
    groups = {}
    for name in names:
        size = sum(key.startswith(f"{name}/") for key in arrays)
        groups[name] = [arrays[f"{name}/{i}"] for i in range(size)]
    return groups, facts


def prune(folder):
    """Deletes all but the newest checkpoint."""
    with records.writing(folder):
        storage.remove(folder / PREVIOUS)


def check_state(path, groups, expected):
    """Raises `CheckpointError` unless the arrays have the shapes and dtypes of the program's."""
    for name, arrays in expected.items():
        pairs = itertools.zip_longest(
            map(_describe, groups[name]), map(_describe, arrays), fillvalue="none"
        )
        for index, (found, needed) in enumerate(pairs):
            if found != needed:
                raise mismatch(path, f"array {index} of {name!r} {found} instead of {needed}")


def mismatch(path, difference):
    """The error for a checkpoint of another run or model."""
    return CheckpointError(
        f"The checkpoint `{path}` must be one of this run and this model. Received: one with "
        f"{difference}. Use another --workdir, or move the run's folder away to restart the run."
    )


def _describe(array):
    array = np.asarray(array)
    return f"{array.dtype}{list(array.shape)}"


def _digest(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {_describe(array)} ".encode())
        digest.update(array.tobytes())
    return digest.digest()
