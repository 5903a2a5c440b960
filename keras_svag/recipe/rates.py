"""Learning rates of a schedule as a table."""

import contextlib
import logging

import keras
import numpy as np
from keras import ops


def tabulate(schedule, total):
    """Learning rates at the effective steps 0 to `total`.

    Args:
        schedule: a float or a Keras schedule.
        total: effective steps of the run.

    Returns:
        A float64 array of shape `(total + 1,)`.
    """
    steps = ops.arange(total + 1, dtype="int32")
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        with _without_tensorflow_warnings():
            rates = ops.vectorized_map(lambda step: ops.cast(schedule(step), "float32"), steps)
        return ops.convert_to_numpy(rates).astype("float64")
    return np.full(total + 1, float(schedule))


@contextlib.contextmanager
def _without_tensorflow_warnings():
    """`vectorized_map` is traced anew for every schedule, of which TensorFlow would warn."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
