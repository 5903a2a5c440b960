"""Arrays of a data set as `.npy` files in a folder, read with NumPy alone.

`meta.json` beside them holds their checksums, so that damaged files are noticed. Files are
memory-mapped, so processes share the memory.
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
# Another process may publish its folder just after a damaged one was moved away.
MAX_ATTEMPTS = 10


def holds_arrays(folder):
    """Returns True if `write_arrays` made the folder, even if it is damaged now."""
    return os.path.isfile(os.path.join(folder, META))  # no error without permission


def read_meta(folder):
    """Reads `meta.json`: `name`, `source`, `num_classes` and `arrays`."""
    try:
        meta = json.loads((pathlib.Path(folder) / META).read_text(encoding="utf-8"))
        return {name: meta[name] for name in ("name", "source", "num_classes", "arrays")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{META} cannot be read ({error!r})") from error


def read_arrays(folder, name):
    """Returns the arrays of a folder, memory-mapped, in the order of `ARRAYS`."""
    meta = read_meta(folder)
    if meta["name"] != name:
        raise ValueError(
            f"The folder must hold the arrays of data set {name!r}. "
            f"Received: {str(folder)!r} with those of {meta['name']!r}"
        )
    arrays = []
    for array in ARRAYS:
        path = pathlib.Path(folder) / f"{array}.npy"
        try:
            if _digest(path) != meta["arrays"][array]["sha256"]:
                raise ValueError("checksum mismatch")
            # A plain array: results of computations with a `memmap` would be memmaps too.
            arrays.append(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, f"{path.name}: {error}") from error
    return arrays


def write_arrays(folder, name, arrays, source, num_classes):
    """Writes a folder of arrays atomically, unless it has an intact one of the same source."""
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`, whose folders only their owner can read: a cache may be shared.
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
    for _ in range(MAX_ATTEMPTS):
        # Fails if the folder exists and is not empty.
        with contextlib.suppress(OSError):
            os.rename(temporary, folder)
            return
        if _is_current(folder, name, source):  # another process was faster
            return
        # Moved before it is deleted, so that the name is free at once.
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


def _damaged(folder, reason):
    return ValueError(
        f"The arrays in {str(folder)!r} are damaged: {reason}. Delete the folder, or copy it again "
        "from its origin."
    )
