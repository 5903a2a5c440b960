"""Arrays of a data set as plain `.npy` files in a folder, to be read with NumPy alone.

A folder holds one file for each of `ARRAYS` and `meta.json`, which says what they must be: a file
that was cut short or changed is noticed on reading. Files are mapped, not copied, so that several
processes share the memory.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil

import numpy as np

ARRAYS = ("train_x", "train_y", "test_x", "test_y")
META = "meta.json"
ATTEMPTS = 10  # others may put theirs where a damaged folder was just moved away


def holds_arrays(folder):
    """Whether `folder` is one that `write_arrays` made (be it damaged)."""
    return os.path.isfile(os.path.join(folder, META))  # no error if it may not be looked into


def read_meta(folder):
    """What `meta.json` of a folder says.

    Args:
        folder: the folder.

    Returns:
        A dict with `name`, `source`, `num_classes` (what `write_arrays` was given; `None` in a
        folder of an earlier version) and `arrays`.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        meta = json.loads((pathlib.Path(folder) / META).read_text(encoding="utf-8"))
        known = {name: meta[name] for name in ("name", "source", "arrays")}
        return known | {"num_classes": meta.get("num_classes")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{META} cannot be read ({error!r})") from error


def read_arrays(folder, name):
    """Reads what `write_arrays` wrote, and checks that it is still that.

    Args:
        folder: the folder.
        name: name of the data set that is expected there.

    Returns:
        A list of read-only arrays, mapped from the files, in the order of `ARRAYS`.

    Raises:
        ValueError: if the folder holds another data set, or a file is missing or not as it was.
    """
    meta = read_meta(folder)
    if meta["name"] != name:
        raise ValueError(
            f"The folder must hold the arrays of data set {name!r}. "
            f"Received: {str(folder)!r} with those of {meta['name']!r}."
        )
    arrays = []
    for array in ARRAYS:
        path = pathlib.Path(folder) / f"{array}.npy"
        try:
            if _digest(path) != meta["arrays"][array]["sha256"]:
                raise ValueError("its checksum is not that of what was written")
            # As a plain array: a `memmap` would go on being one in whatever is computed from it.
            arrays.append(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, f"{path.name}: {error}") from error
    return arrays


def write_arrays(folder, name, arrays, source, num_classes=None):
    """Writes arrays, wholly or not at all; processes that do so at once do not disturb each other.

    What is in the folder already is kept if it can be read and has the same source, else replaced.

    Args:
        folder: the folder.
        name: name of the data set.
        arrays: list of arrays, in the order of `ARRAYS`.
        source: JSON-able dict, where they come from.
        num_classes: number of classes, or `None` if the labels tell. Defaults to `None`.

    Raises:
        OSError: if nothing can be written there.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its folders cannot be read by others, and a cache may be shared.
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        meta = {"name": name, "source": source, "num_classes": num_classes, "arrays": {}}
        for array, value in zip(ARRAYS, arrays, strict=True):
            path = temporary / f"{array}.npy"
            np.save(path, value, allow_pickle=False)
            described = {"dtype": str(value.dtype), "shape": list(value.shape)}
            meta["arrays"][array] = {**described, "sha256": _digest(path)}
        text = json.dumps(meta, indent=2, allow_nan=False) + "\n"
        (temporary / META).write_text(text, encoding="utf-8")
        _publish(temporary, folder, name, source)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary, folder, name, source):
    discarded = temporary.with_suffix(".old")
    for _ in range(ATTEMPTS):
        # Fails if there is a folder with files in it.
        with contextlib.suppress(OSError):
            os.rename(temporary, folder)
            return
        if _is_current(folder, name, source):  # another process was faster
            return
        # Moved away first: who has its files mapped keeps them.
        with contextlib.suppress(OSError):
            os.rename(folder, discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    os.rename(temporary, folder)


def _is_current(folder, name, source):
    try:
        read_arrays(folder, name)
        return read_meta(folder)["source"] == source
    except ValueError:
        return False


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder, what):
    return ValueError(
        f"The arrays in {str(folder)!r} are damaged: {what}. Delete the folder, or copy it again "
        "from where it was made."
    )
