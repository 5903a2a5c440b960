"""What a recipe is, in words that JSON can hold: two calls with the same words train the same."""

import functools

import keras
from keras import tree

from keras_svag._checks import shortest_float
from keras_svag.optimizers.registry import live_config
from keras_svag.recipe.canonical import has_own_source, plain, short_digest, without_names

__all__ = ["describe_function", "describe_losses", "describe_optimizer", "short_digest"]


def describe_function(function):
    """Name and digest of a function; comments and layout do not count.

    Args:
        function: any callable, or `None`.

    Returns:
        A string, or `None` for `None`.
    """
    if function is None:
        return None
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{name} {short_digest(plain(function))}"


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
    return describe_function(loss)


def describe_optimizer(optimizer):
    """Class and hyperparameters of an optimizer, as a dict."""
    config = live_config(optimizer)
    for name in ("name", "ell"):  # made up by Keras; the study's
        config.pop(name, None)
    rate = config.pop("learning_rate")
    is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    config["learning_rate"] = _describe_schedule(rate) if is_schedule else shortest_float(rate)
    return {"class": type(optimizer).__name__, **plain(config)}


def _describe_schedule(schedule):
    if has_own_source(type(schedule)):
        return describe_function(schedule)
    return {"class": type(schedule).__name__, **without_names(plain(schedule.get_config()))}
