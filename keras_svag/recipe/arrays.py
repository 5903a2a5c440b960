"""Structures of arrays, as `fit` takes them."""

import hashlib

import keras
import numpy as np
from keras import tree

PARTS = ("x", "y", "sample_weight")
NUMERIC = "biuf"


def check_data(name, data):
    """Checks `x`, `(x, y)` or `(x, y, sample_weight)`; returns a tuple, with floats in floatx."""
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if not 1 <= len(parts) <= len(PARTS) or parts[0] is None:
        raise ValueError(
            f"`{name}` must be x, (x, y) or (x, y, sample_weight), each an array or a structure of "
            f"arrays. Received: {name} with {len(parts)} parts. Pass a list of inputs inside a "
            "tuple: ([first, second], y)."
        )
    checked, lengths = [], {}
    for part, value in zip(PARTS, parts):
        leaves = []
        for path, leaf in _leaves_with_path(value):
            if leaf is not None:
                leaf_name = part + "".join(f"[{key!r}]" for key in path)
                leaf = _check_leaf(name, leaf_name, leaf)
                lengths[leaf_name] = len(leaf)
            leaves.append(leaf)
        checked.append(tree.pack_sequence_as(value, leaves) if tree.is_nested(value) else leaves[0])
    if not any(leaf.startswith(PARTS[0]) for leaf in lengths):
        raise ValueError(f"`{name}` must hold at least one array of inputs. Received: none in x")
    first, count = next(iter(lengths.items()))
    for leaf, length in lengths.items():
        if length != count or not count:
            raise ValueError(
                f"`{name}` must have the same number of examples in every array, at least one. "
                f"Received: {first} with {count} examples, {leaf} with {length}"
            )
    return tuple(checked)


def _leaves_with_path(value):
    return [((), None)] if value is None else tree.flatten_with_path(value)


def _check_leaf(name, leaf_name, leaf):
    if not hasattr(leaf, "__array__"):
        raise ValueError(
            f"`{name}` must hold arrays. Received: {leaf_name} of {type(leaf).__name__}. Read "
            "generators and tf.data pipelines into arrays first: batches are drawn by index."
        )
    # A view, whose id is the key of the copy on the device: if the user changes an array in place
    # and passes it to another recipe, that gets a new copy.
    array = np.asarray(leaf).view()
    if array.dtype.kind not in NUMERIC:
        raise ValueError(
            f"`{name}` must hold numbers. Received: {leaf_name} with dtype {array.dtype}. Encode "
            "strings and objects as numbers first."
        )
    if array.ndim == 0:
        raise ValueError(
            f"`{name}` must hold arrays with one row per example. Received: {leaf_name}, a scalar"
        )
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            bad = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
            raise ValueError(
                f"`{name}` must hold finite numbers. Received: {leaf_name} with NaN or infinity in "
                f"{len(bad)} examples, the first at index {bad[0]}. Remove those examples."
            )
        array = array.astype(keras.config.floatx(), copy=False)
    return array


def num_examples(data):
    """Number of examples in what `check_data` returned."""
    return len(next(leaf for leaf in tree.flatten(data) if leaf is not None))


def example_size(x):
    """Number of elements in one example of a structure of inputs."""
    return sum(leaf[:1].size for leaf in tree.flatten(x) if leaf is not None)


def take(data, rows):
    """Selects `rows` (a slice or indices) of each array; `None` stays."""
    return tree.map_structure(
        lambda leaf: None if leaf is None else leaf[rows], data, none_is_leaf=True
    )


def check_same_examples(train, test):
    """Raises unless test data match training data in structure, shapes and kind of inputs."""

    def signature(part, value):
        return [
            (path, None if leaf is None else (leaf.shape[1:], part == "x" and leaf.dtype.kind))
            for path, leaf in _leaves_with_path(value)
        ]

    expected = "`test_data` must have the structure and the shapes of `train_data`. "
    if len(train) < len(test):
        raise ValueError(f"{expected}Received: {len(test)} parts, in `train_data` {len(train)}")
    for part, *values in zip(PARTS, train, test):
        first, second = (signature(part, value) for value in values)
        if first != second:
            raise ValueError(f"{expected}Received: train {part} {first}, test {part} {second}")


def fingerprint(*data):
    """SHA-256 of all arrays with their shapes and dtypes; `None` is skipped."""
    digest = hashlib.sha256()
    for leaf in tree.flatten(data):
        if leaf is not None:
            digest.update(f"{leaf.shape}{leaf.dtype}".encode())
            digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
