"""Checks of user input: one wording for one mistake, or for a name that is on its way out."""

import contextlib
import difflib
import functools
import math
import numbers
import os
import pathlib
import re
import stat
import warnings

import numpy as np

from keras_svag.version import __version__

LARGEST_INT = 2**64 - 1


def finite_float(name, value, expectation, minimum=None, exclusive=False):
    """Returns `value` as a Python float; raises unless it is finite and >= (or >) `minimum`."""
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an int too large for a float
            number = float(value)
    too_small = minimum is not None and (number <= minimum if exclusive else number < minimum)
    if not math.isfinite(number) or too_small:
        raise ValueError(f"`{name}` must be {expectation}. Received: {name}={value!r}")
    return number


def as_floats(name, values):
    """Returns an array of float64, which may hold NaN and infinity."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"`{name}` must be numbers that fit into float64. Received: {name}={values!r}"
        ) from error


def positive_int(name, value, minimum=1):
    """Returns `value` as a Python int; raises unless `minimum` <= `value` < 2^64."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}. Received: {name}={value!r}")
    if value > LARGEST_INT:
        # Python refuses to print integers of thousands of digits.
        raise ValueError(
            f"`{name}` must be an integer from {minimum} to 2^64 - 1. "
            f"Received: an integer of {int(value).bit_length()} bits"
        )
    return int(value)


def one_of(name, value, allowed):
    """Returns `value`; raises unless it is in the iterable `allowed`."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: {name}={value!r}"
        )
    return value


def local_folder(name: str, value: object) -> pathlib.Path:
    """Returns a `pathlib.Path` with `~` expanded; raises unless it may be a local folder."""
    expected = f"`{name}` must be a folder, or a path where one can be made. "
    received = f"Received: {name}={str(value)!r}"
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ValueError(f"{expected}Received: {name}={value!r}")
    try:
        folder = pathlib.Path(value).expanduser()
        is_other = not stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return folder
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a null character
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{expected}{received} ({reason}). Use another path.") from error
    if is_other:
        raise ValueError(f"{expected}{received}, a file. Use another path.")
    return folder


def shortest_float(value):
    """Returns the shortest Python float equal to `value` in float32, Keras' type for rates."""
    return float(str(np.float32(value)))


def as_list(values):
    """Returns a list, tuple, range or 1D array as a list, and anything else as a list of one."""
    is_vector = isinstance(values, np.ndarray) and values.ndim == 1
    return list(values) if is_vector or isinstance(values, (list, tuple, range)) else [values]


def sorted_values(name, values, check):
    """Returns the distinct values as a sorted list, each passed through `check`."""
    checked = sorted({check(value) for value in as_list(values)})
    if not checked:
        raise ValueError(f"`{name}` must not be empty. Received: {name}={values}")
    return checked


def reject_unknown(prefix, fields, known, owner="the config"):
    """Raises at the first of `fields` (a dict) that is not among the `known` names."""
    for name in fields:
        if name not in known:
            shown = f"{prefix}{repr(name).strip(chr(39))}"  # in one line
            close = difflib.get_close_matches(str(name), known, n=1)
            raise ValueError(
                f"`{shown}` is not a field of {owner}. Fields: {', '.join(known)}. "
                f"Received: {shown}={fields[name]!r}"
                + (f". Did you mean `{prefix}{close[0]}`?" if close else "")
            )


def one_line(error):
    """Formats the message of an error in one line, without the colors of Keras."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())


def error_text(error):
    """Formats an error as its type and its message, in one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def english_list(words):
    """Joins words as in a sentence: "R, N and G"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def deprecated(instead, since, removed_in):
    """Decorates a function or method that is going to be removed."""

    def decorate(function):
        message = _deprecation(f"`{function.__qualname__}`", instead, since, removed_in)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            warnings.warn(message, FutureWarning, stacklevel=2)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def renamed_argument(old, new, since, removed_in):
    """Decorates a function that still takes the keyword argument `new` by the name `old`."""

    def decorate(function):
        name = f"Argument `{old}` of `{function.__qualname__}`"
        message = _deprecation(name, f"`{new}`", since, removed_in)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if old in kwargs:
                if new in kwargs:
                    raise ValueError(
                        f"`{old}` must not be given beside `{new}`, its new name. Received: "
                        f"{old}={kwargs[old]!r}, {new}={kwargs[new]!r}. Remove `{old}`."
                    )
                warnings.warn(message, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def _deprecation(name, instead, since, removed_in):
    if _numbers(__version__) >= _numbers(removed_in):
        # Whoever raises the version is told what to remove.
        raise RuntimeError(f"{name} was to be removed in keras_svag {removed_in}.")
    return (
        f"{name} is deprecated since keras_svag {since} and will be removed in {removed_in}. "
        f"Use {instead} instead."
    )


def _numbers(version):
    return [int(digits) for digits in re.findall(r"\d+", version)]
