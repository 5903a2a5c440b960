"""Moves an optimizer to a larger batch in the middle of a run, in place."""

from keras import ops

from keras_svag import _keras
from keras_svag.optimizers.amplification import AmplificationMixin
from keras_svag.optimizers.scaling import find_rule, scaled_hyperparameters
from keras_svag.optimizers.state import state_factors
from keras_svag.schedules import LearningRateSchedule, continue_schedule
from keras_svag.theory.scaling_rules import AUTO, scale_factor


def schedule_step(optimizer):
    """Returns the step that a learning-rate schedule of the optimizer sees, an int."""
    if isinstance(optimizer, AmplificationMixin):
        return int(ops.convert_to_numpy(optimizer._schedule_step()))
    return _keras.counted_batches(optimizer)


def grow_optimizer(optimizer, kappa, rule=AUTO):
    """Moves hyperparameters, learning rate and state to kappa times the batch size."""
    factors = state_factors(optimizer, kappa, rule)
    rate = _keras.get_learning_rate(optimizer)
    is_changed = set_hyperparameters(optimizer, kappa, rule, schedule_step(optimizer))
    if not isinstance(rate, LearningRateSchedule):
        power = find_rule(optimizer, rule).powers["learning_rate"]
        rate.assign(rate * scale_factor(kappa, power))
    for variable, factor in factors:
        variable.assign(variable * factor)
    return is_changed


def set_hyperparameters(optimizer, kappa, rule, step):
    """Moves hyperparameters, and a schedule from `step` on; returns True if something changed."""
    scaled = scaled_hyperparameters(optimizer, kappa, rule)
    scaled.pop("learning_rate")
    # Without a change, as for SGD without momentum, the train step stays as it is compiled.
    scaled = {n: value for n, value in scaled.items() if value != getattr(optimizer, n)}
    schedule = _keras.get_learning_rate(optimizer)
    has_schedule = isinstance(schedule, LearningRateSchedule)
    if has_schedule:
        factor = scale_factor(kappa, find_rule(optimizer, rule).powers["learning_rate"])
        optimizer.learning_rate = continue_schedule(schedule, factor, 1.0 / kappa, step)
    assign_hyperparameters(optimizer, scaled)
    return bool(scaled) or has_schedule


def assign_hyperparameters(optimizer, values):
    """Assigns hyperparameters that are attributes; those of SVAG follow."""
    for name, value in values.items():
        setattr(optimizer, name, value)
    if isinstance(optimizer, AmplificationMixin):
        # `optimizer.ell = optimizer.ell` does nothing on TensorFlow: it is the same object.
        optimizer._amplify(optimizer.ell)


def snapshot(optimizer, rule=AUTO):
    """Returns what `set_hyperparameters` may change, to be restored by `restore_snapshot`."""
    names = set(scaled_hyperparameters(optimizer, 1.0, rule)) - {"learning_rate"}
    schedule = _keras.get_learning_rate(optimizer)
    return {n: getattr(optimizer, n) for n in names}, schedule


def restore_snapshot(optimizer, saved):
    """Restores the hyperparameters of a snapshot; a learning rate that is a variable stays."""
    values, schedule = saved
    if isinstance(schedule, LearningRateSchedule):
        optimizer.learning_rate = schedule
    assign_hyperparameters(optimizer, values)
