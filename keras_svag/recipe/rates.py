"""Learning rates of a schedule, tabulated."""

import contextlib
import logging
import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_svag._checks import error_text


def tabulate(schedule, total):
    """Returns learning rates at effective steps 0 to `total`, a float64 array."""
    steps = ops.arange(total + 1, dtype="int32")
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        with _without_tensorflow_warnings():
            try:
                rates = ops.vectorized_map(lambda step: ops.cast(schedule(step), "float32"), steps)
            except Exception as error:
                raise ValueError(
                    "`learning_rate` must be a schedule that can be compiled: use keras.ops, such "
                    "as keras.ops.where instead of `if`. Received: "
                    f"{type(schedule).__name__}, which raised {type(error).__name__}"
                ) from error
        return ops.convert_to_numpy(rates).astype("float64")
    return np.full(total + 1, float(schedule))


@contextlib.contextmanager
def _without_tensorflow_warnings():
    """Silences TensorFlow's warning about retracing: each schedule is traced once."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def call_schedule(function, rate, total):
    """Calls a function of a learning rate and a number of steps for the schedule of a run."""
    expected = (
        "`schedule` must be a function of a learning rate and a number of steps that returns a "
        f"number or a Keras schedule. Received: schedule={function!r}, which "
    )
    try:
        schedule = function(rate, total)
    except Exception as error:
        raise ValueError(f"{expected}raised {error_text(error)}") from error
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return schedule
    if not isinstance(schedule, numbers.Real) or not math.isfinite(schedule):
        raise ValueError(f"{expected}returned {schedule!r}")
    return schedule
