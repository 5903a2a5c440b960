"""The optimizer for the larger batch as Python code."""

import inspect
import sys

import keras

from keras_svag import _keras
from keras_svag._checks import shortest_float
from keras_svag.optimizers import registry, scaling
from keras_svag.schedules import LearningRateSchedule


def scaled_code(optimizer, kappa, rule, learning_rate):
    """Returns the scaled optimizer as code, or `None` and the reason."""
    if _keras.excludes_from_decay(optimizer):
        scaled = f"keras_svag.scale_optimizer(optimizer, kappa={kappa:g}, rule={rule!r})"
        return None, f"{scaled} keeps what is excluded from weight decay; no constructor does."
    try:
        if not callable(_keras.get_learning_rate(optimizer)):
            # A callback may have changed the learning rate since these records were made.
            optimizer = registry.rebuild(optimizer, learning_rate=shortest_float(learning_rate))
        return optimizer_code(scaling.scale_optimizer(optimizer, kappa, rule)), ""
    except (ValueError, NotImplementedError) as error:  # the latter from a schedule without config
        return None, str(error)


def optimizer_code(optimizer):
    """Returns a Python expression for an optimizer, with the arguments that are not defaults."""
    cls = type(optimizer)
    try:
        defaults = cls().get_config()
    except TypeError:  # a subclass with required arguments
        defaults = {}
    config = registry.live_config(optimizer)
    del config["name"]  # usually made up by Keras
    arguments = {
        name: value
        for name, value in config.items()
        if name == "learning_rate" or name not in defaults or value != defaults[name]
    }
    return _call(cls, keras.optimizers, arguments)


def _call(cls, module, arguments):
    listed = ", ".join(f"{name}={_expression(value, name)}" for name, value in arguments.items())
    return f"{_qualified_name(cls, module)}({listed})"


def _expression(value, name):
    if isinstance(value, LearningRateSchedule):
        return _schedule_code(value)
    if isinstance(value, float):
        value = shortest_float(value) if name == "learning_rate" else float(f"{value:.12g}")
    return repr(value)


def _schedule_code(schedule):
    config = schedule.get_config()
    if "schedule" in config:  # an inner one, serialized
        config["schedule"] = schedule.schedule
    defaults = inspect.signature(type(schedule)).parameters
    arguments = {
        name: value
        for name, value in config.items()
        if name not in defaults or value != defaults[name].default
    }
    return _call(type(schedule), keras.optimizers.schedules, arguments)


def _qualified_name(cls, module):
    candidates = {m: sys.modules.get(m) for m in ("keras_svag", "keras_svag.schedules")}
    for name, place in {**candidates, module.__name__: module}.items():
        if getattr(place, cls.__name__, None) is cls:
            return f"{name}.{cls.__name__}"
    return cls.__name__
