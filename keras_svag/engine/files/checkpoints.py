"""Checkpoints of a run: the last two, each with a checksum, read without executing anything.

A checkpoint is an `.npz` file of plain arrays: the program's state, and as UTF-8 text in JSON what
else a run is (its rows among it). It is written beside the newest one and takes its place when it
is on the disk, so that there is a whole one at any moment.
"""

import hashlib
import json
import pathlib
import warnings

import numpy as np

from keras_svag._json import to_json
from keras_svag.engine.files import records

LATEST, PREVIOUS = "latest.npz", "previous.npz"
FACTS, CHECKSUM = "facts", "sha256"


class CheckpointError(ValueError):
    """Raised when a checkpoint is whole but not of this run and model."""


def save(folder, groups, **facts):
    """Writes a checkpoint; the one before it is kept, older ones are not.

    Args:
        folder: where the checkpoints are.
        groups: dict from name to list of arrays.
        **facts: what JSON can hold.

    Raises:
        WriteError: if it cannot be written; the checkpoints that were there stay.
    """
    folder = pathlib.Path(folder)
    arrays = {f"{name}/{i}": a for name, group in groups.items() for i, a in enumerate(group)}
    text = json.dumps(to_json(facts), allow_nan=False)
    arrays[FACTS] = np.frombuffer(text.encode("utf-8"), np.uint8)
    checksum = np.frombuffer(_digest(arrays), np.uint8)
    backup = folder / PREVIOUS
    with records.atomic_path(folder / LATEST, backup) as path, open(path, "wb") as file:
        np.savez(file, **arrays, **{CHECKSUM: checksum})


def load(folder, names):
    """Reads the newest checkpoint that is whole; warns about one that is not.

    Args:
        folder: where the checkpoints are.
        names: names of the groups.

    Returns:
        A tuple `(groups, facts)`, or `None` if there is no checkpoint.
    """
    for name in (LATEST, PREVIOUS):
        path = pathlib.Path(folder) / name
        if not path.exists():
            continue
        try:
            return read(path, names)
        except records.DamagedError as error:
            warnings.warn(
                f"{error} The one before it is used if there is one, else the run starts anew.",
                stacklevel=2,
            )
    return None


def read(path, names):
    """Reads one checkpoint.

    Args:
        path: the file.
        names: names of the groups.

    Returns:
        A tuple `(groups, facts)`.

    Raises:
        DamagedError: if the file is not as it was written.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        checksum = arrays.pop(CHECKSUM).tobytes()
        if checksum != _digest(arrays):
            raise ValueError("its checksum is not that of its content")
        facts = json.loads(arrays.pop(FACTS).tobytes().decode("utf-8"))
    # Whatever bytes there are, and whatever NumPy and zipfile make of them.
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
    """Leaves the newest checkpoint alone, as at the end of a run."""
    (pathlib.Path(folder) / PREVIOUS).unlink(missing_ok=True)


def check_state(path, groups, expected):
    """Raises where a checkpoint's arrays are not those of the model at hand.

    Args:
        path: the checkpoint, for the message.
        groups: what was read.
        expected: the state of the program, of the same names.

    Raises:
        CheckpointError: naming the first array that differs.
    """
    for name, arrays in expected.items():
        got, wanted = ([_describe(a) for a in group] for group in (groups[name], arrays))
        if got != wanted:
            place = next(
                (i for i, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]),
                min(len(got), len(wanted)),
            )
            found, needed = (
                kinds[place] if place < len(kinds) else "none" for kinds in (got, wanted)
            )
            raise refused(
                path,
                f"array {place} of {name!r} is {found}, in this model {needed} "
                f"({len(got)} arrays, in this model {len(wanted)})",
            )


def refused(path, difference):
    """The error for a checkpoint that belongs to something else.

    Args:
        path: the checkpoint.
        difference: what differs, in words.

    Returns:
        A `CheckpointError`.
    """
    return CheckpointError(
        f"The checkpoint `{path}` must be one of this run and this model. Received: another one: "
        f"{difference}. Use another --workdir, or move the run's folder away: it then starts anew."
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
