"""A text file as windows of characters, for models that predict the next one."""

import os

import numpy as np

from keras_svag._checks import finite_float, positive_int
from keras_svag.datasets.dataset import Dataset


def text(
    path: str | os.PathLike,
    length: int = 64,
    test_fraction: float = 0.1,
    num_train: int | None = None,
    num_test: int | None = None,
) -> Dataset:
    """Loads a UTF-8 text file as windows of characters, each with the next characters as labels.

    Tokens are the different characters of the file in their order as Unicode. The text is cut into
    windows of `length` characters that do not overlap; the last part of the file is for testing.

    Args:
        path: the file; `~` is expanded.
        length: int, number of characters in a window. Defaults to `64`.
        test_fraction: float, part of the windows for testing. Defaults to `0.1`.
        num_train: number of training windows, evenly spaced over their part of the file. Defaults
            to `None`: all.
        num_test: number of test windows, likewise. Defaults to `None`: all.

    Returns:
        A `Dataset` of int32 tokens of shape `(n, length)`; labels are the tokens one position
        later. `num_classes` is the number of different characters.

    Raises:
        ValueError: if the file cannot be read, is not UTF-8, or is too short.

    Example:

    >>> dataset = text("shakespeare.txt", length=32)  # doctest: +SKIP
    """
    length = positive_int("length", length)
    expectation = "a number > 0 and < 1"
    test_fraction = finite_float("test_fraction", test_fraction, expectation, 0.0, exclusive=True)
    if test_fraction >= 1:
        raise ValueError(
            f"`test_fraction` must be {expectation}. Received: test_fraction={test_fraction}"
        )
    codes, num_classes = _tokens(path)
    count = (len(codes) - 1) // length
    tests = max(1, round(test_fraction * count))
    if count - tests < 1:
        raise ValueError(
            f"`path` must be a text of more than {2 * length} characters, for a training and a "
            f"test window of `length`. Received: path={os.fspath(path)!r} of {len(codes)} "
            f"characters, length={length}"
        )
    x, y = (codes[shift : shift + count * length].reshape(count, length) for shift in (0, 1))
    train = _spaced("num_train", num_train, count - tests)
    test = count - tests + _spaced("num_test", num_test, tests)
    return Dataset("text", x[train], y[train], x[test], y[test], num_classes)


def _tokens(path):
    """Returns the characters of a file as int32 from 0, and how many different ones there are."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            characters = np.frombuffer(file.read().encode("utf-32-le"), "<u4")
    except (OSError, TypeError, UnicodeDecodeError) as error:  # `None` where a config has no path
        raise ValueError(
            f"`path` must be a UTF-8 text file. Received: path={str(path)!r}. {error}"
        ) from error
    vocabulary, codes = np.unique(characters, return_inverse=True)
    return codes.astype(np.int32), len(vocabulary)


def _spaced(name, count, available):
    """Returns the indices of `count` of the available windows."""
    count = available if count is None else positive_int(name, count)
    if count > available:
        raise ValueError(
            f"`{name}` must be at most {available}, the number of windows. Received: {name}={count}"
        )
    return np.arange(count) * available // count
