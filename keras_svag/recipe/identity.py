"""What a recipe is, in words that JSON can hold: two calls with the same words train the same."""

import ast
import functools
import hashlib
import inspect
import textwrap

import keras
import numpy as np
from keras import tree

from keras_svag._checks import shortest_float


def describe_function(function):
    """Name and digest of a function; comments and layout do not count.

    Args:
        function: any callable, or `None`.

    Returns:
        A string, or `None` for `None`.
    """
    if function is None:
        return None
    if isinstance(function, functools.partial):
        arguments = (function.args, sorted(function.keywords.items()))
        return f"{describe_function(function.func)} with {short_digest(_plain(arguments))}"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name} {short_digest(_source(function))}"


def _source(function):
    """Text that changes when the function does."""
    target = function if hasattr(function, "__code__") else type(function)
    values = repr(_plain(getattr(function, "__dict__", {}))) if target is not function else ""
    for cell in getattr(function, "__closure__", None) or ():
        values += repr(_plain(cell.cell_contents))
    try:
        source = textwrap.dedent(inspect.getsource(target))
    except (OSError, TypeError):  # no file: a console, or a built-in
        code = getattr(target, "__code__", None)
        return f"{getattr(code, 'co_code', target)!r}{getattr(code, 'co_names', '')}{values}"
    try:
        return ast.unparse(ast.parse(source)) + values
    except SyntaxError:  # a lambda in the middle of a statement
        return source + values


def _plain(value):
    """Values whose text is the same in every process; of others the type."""
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=str)}
    if isinstance(value, np.ndarray):
        return short_digest(f"{value.shape}{value.dtype}{value.tobytes()!r}")
    if callable(value) and not isinstance(value, type):
        return describe_function(value)
    return type(value).__qualname__


def short_digest(text):
    """Twelve hexadecimal digits that stand for a text."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:12]


def describe_losses(losses):
    """Losses or metrics as `compile` takes them: names, classes with their settings, functions."""
    return (
        tree.map_structure(_describe_loss, losses)
        if tree.is_nested(losses)
        else (_describe_loss(losses))
    )


def _describe_loss(loss):
    if loss is None or isinstance(loss, str):
        return loss
    if isinstance(loss, (keras.losses.Loss, keras.metrics.Metric)):
        config = {k: v for k, v in loss.get_config().items() if k != "dtype"}
        return f"{type(loss).__name__} {short_digest(_plain(config))}"
    return describe_function(loss)


def describe_optimizer(optimizer):
    """Class and hyperparameters of an optimizer, as a dict."""
    config = optimizer.get_config()
    for name in ("name", "ell"):  # made up by Keras; the study's
        config.pop(name, None)
    rate = config["learning_rate"]
    config["learning_rate"] = rate if isinstance(rate, dict) else shortest_float(rate)
    return {"class": type(optimizer).__name__, **_plain(config)}
