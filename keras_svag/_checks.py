"""Checks of user input that several modules share: one wording for one mistake."""

import contextlib
import math
import numbers

import numpy as np


def finite_float(name, value, expectation, minimum=None, exclusive=False):
    """Returns `value` as a Python float, or says what is wrong with it.

    Args:
        name: Name of the argument, for the message.
        value: What the user passed.
        expectation: What was expected, for the message, as in "a number >= 0.5".
        minimum: Smallest allowed value, or `None`.
        exclusive: Whether `minimum` itself is refused.

    Returns:
        A Python float (Keras refuses ints and NumPy scalars in many places).

    Raises:
        ValueError: if `value` is not a finite number in range.
    """
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an int beyond all floats
            number = float(value)
    too_small = minimum is not None and (number <= minimum if exclusive else number < minimum)
    if not math.isfinite(number) or too_small:
        raise ValueError(f"`{name}` must be {expectation}. Received: {name}={value!r}")
    return number


def as_floats(name, values):
    """Returns an array of float64, or says that there is none.

    Args:
        name: Name of the argument, for the message.
        values: What the user passed.

    Returns:
        A NumPy array, which may hold NaN and infinity.

    Raises:
        ValueError: if `values` are not numbers.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"`{name}` must be numbers that floats can hold. Received: {name}={values!r}"
        ) from error


LARGEST_INT = 2**64 - 1


def positive_int(name, value, minimum=1):
    """Returns `value` as a Python int, or says what is wrong with it.

    Args:
        name: Name of the argument, for the message.
        value: What the user passed.
        minimum: Smallest allowed value.

    Returns:
        A Python int.

    Raises:
        ValueError: if `value` is not an integer >= `minimum`, or has more than 64 bits.
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}. Received: {name}={value!r}")
    if value > LARGEST_INT:
        raise ValueError(
            f"`{name}` must be an integer from {minimum} to 2^64 - 1. "
            f"Received: an integer of {int(value).bit_length()} bits"
        )
    return int(value)


def one_of(name, value, allowed):
    """Returns `value` if it is in `allowed`, else lists what is allowed.

    Args:
        name: Name of the argument, for the message.
        value: What the user passed.
        allowed: Iterable of allowed values.

    Returns:
        `value`.

    Raises:
        ValueError: if `value` is not in `allowed`.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: {name}={value!r}"
        )
    return value


def shortest_float(value):
    """The shortest Python float that is `value` in float32, in which Keras keeps some numbers."""
    return float(str(np.float32(value)))


def as_list(values):
    """A list of values; of a single one if it is no list or tuple."""
    return list(values) if isinstance(values, (list, tuple)) else [values]


def sorted_values(name, values, check):
    """Returns the distinct values, checked one by one and sorted, as a list.

    Args:
        name: Name of the argument, for the message.
        values: A list or tuple, or a single value.
        check: Function that returns a value, or raises.

    Returns:
        A list.

    Raises:
        ValueError: if there is none, or `check` raises.
    """
    checked = sorted({check(value) for value in as_list(values)})
    if not checked:
        raise ValueError(f"`{name}` must not be empty. Received: {name}={values}")
    return checked


def reject_unknown(prefix, fields, known, owner="the config"):
    """Raises at the first field that is not known.

    Args:
        prefix: what stands before the names, such as `"model."`.
        fields: dict.
        known: names of the fields that there are.
        owner: whose fields these are, for the message.

    Raises:
        ValueError: naming the field and those that there are.
    """
    for name in fields:
        if name not in known:
            raise ValueError(
                f"`{prefix}{name}` is not a field of {owner}; there are {', '.join(known)}. "
                f"Received: {prefix}{name}={fields[name]!r}"
            )


def english_list(words):
    """Joins words as a sentence does: "R, N and G"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
