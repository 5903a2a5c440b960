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

    Raises:
        ValueError: if the schedule cannot be part of a compiled program.
    """
    steps = ops.arange(total + 1, dtype="int32")
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        with _without_tensorflow_warnings():
            try:
                rates = ops.vectorized_map(lambda step: ops.cast(schedule(step), "float32"), steps)
            except Exception as error:
                raise ValueError(
                    "`learning_rate` must be a schedule that works inside compiled programs: use "
                    "keras.ops, such as keras.ops.where in place of `if`. Received: "
                    f"{type(schedule).__name__}, which raised {type(error).__name__}"
                ) from error
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
