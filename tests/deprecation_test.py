"""Deprecated names still work, say what to use, and cannot outlive the version of their removal."""

import inspect
import re
import warnings

import pytest

from keras_svag import _checks
from keras_svag._checks import deprecated, renamed_argument


@deprecated("`new_square`", since="0.1", removed_in="99.0")
def old_square(x):
    """The square of a number."""
    return x * x


@renamed_argument("power", "exponent", since="0.1", removed_in="99.0")
def raise_to(x, exponent=2):
    """A power of a number."""
    return x**exponent


def test_a_deprecated_function_warns_and_works():
    sentence = (
        "`old_square` is deprecated since keras_svag 0.1 and will be removed in 99.0. "
        "Use `new_square` instead."
    )
    with pytest.warns(FutureWarning, match=re.escape(sentence)) as caught:
        assert old_square(3) == 9
    # The line to change is the caller's.
    assert [warning.filename for warning in caught] == [__file__]
    assert old_square.__doc__ == "The square of a number."


def test_a_renamed_argument_warns_and_works():
    sentence = "Argument `power` of `raise_to` is deprecated since keras_svag 0.1"
    with pytest.warns(FutureWarning, match=sentence) as caught:
        assert raise_to(2, power=5) == 32
    assert [warning.filename for warning in caught] == [__file__]
    # Help and editors show the new name only.
    assert list(inspect.signature(raise_to).parameters) == ["x", "exponent"]


def test_the_new_name_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [raise_to(2), raise_to(2, 5), raise_to(2, exponent=5)] == [4, 32, 32]


def test_both_names_are_refused():
    with pytest.raises(ValueError, match="Received: power=3, exponent=4"):
        raise_to(2, power=3, exponent=4)


RENAMED = (
    deprecated("`new`", "0.8", "0.10.0"),
    renamed_argument("a", "b", "0.8", "0.10.0"),
)


@pytest.mark.parametrize("decorate", RENAMED)
@pytest.mark.parametrize("version", ["0.10.0rc1", "0.10.0", "0.11.0", "1.0.0"])
def test_a_removal_cannot_be_forgotten(monkeypatch, decorate, version):
    monkeypatch.setattr(_checks, "__version__", version)
    with pytest.raises(RuntimeError, match="was to be removed in keras_svag 0.10.0"):
        decorate(len)


@pytest.mark.parametrize("decorate", RENAMED)
@pytest.mark.parametrize("version", ["0.8.0", "0.9.12"])  # 9 comes before 10
@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_nothing_is_removed_too_early(monkeypatch, decorate, version):
    monkeypatch.setattr(_checks, "__version__", version)
    assert decorate(len)([1, 2]) == 2
