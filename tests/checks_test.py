"""Tests of keras_svag/_checks.py."""

import math

import numpy as np
import pytest

from keras_svag._checks import finite_float, one_of, positive_int


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)], ids=repr)
def test_numbers_become_python_numbers(value):
    # Keras and json refuse NumPy scalars in many places.
    number = finite_float("rate", value, "a number")
    assert type(number) is float and number == 2.0
    if not isinstance(value, (float, np.floating)):
        integer = positive_int("count", value)
        assert type(integer) is int and integer == 2


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "2", None, True, 2j, [2.0]], ids=repr
)
def test_finite_float_refuses(value):
    with pytest.raises(ValueError) as error:
        finite_float("rate", value, "a number > 0")
    assert str(error.value) == f"`rate` must be a number > 0. Received: rate={value!r}"


@pytest.mark.parametrize(
    ("value", "exclusive", "accepted"),
    [
        (0.5, False, True),
        (0.5, True, False),
        (math.nextafter(0.5, 0), False, False),
        (math.nextafter(0.5, 1), True, True),
    ],
    ids=["at, inclusive", "at, exclusive", "below, inclusive", "above, exclusive"],
)
def test_finite_float_at_the_minimum(value, exclusive, accepted):
    if accepted:
        assert finite_float("ell", value, "large", 0.5, exclusive) == value
    else:
        with pytest.raises(ValueError, match="`ell` must be large"):
            finite_float("ell", value, "large", 0.5, exclusive)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True, math.nan], ids=repr)
def test_positive_int_refuses(value):
    with pytest.raises(ValueError) as error:
        positive_int("num_seeds", value)
    message = f"`num_seeds` must be an integer >= 1. Received: num_seeds={value!r}"
    assert str(error.value) == message


def test_positive_int_at_the_minimum():
    assert positive_int("seed", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="integer >= 0. Received: seed=-1"):
        positive_int("seed", -1, minimum=0)


def test_one_of_lists_what_is_allowed():
    assert one_of("norm", "group", iter(["batch", "group"])) == "group"
    with pytest.raises(ValueError) as error:
        one_of("norm", "grup", iter(["batch", "group"]))
    assert str(error.value) == "`norm` must be one of 'batch', 'group'. Received: norm='grup'"
