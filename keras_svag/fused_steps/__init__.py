"""Runs the train steps of `steps_per_execution=K` in one compiled program."""

from keras_svag._backend import backend_module
from keras_svag.distribution import is_distributed
from keras_svag.xla_policy import should_fuse_steps

FusedSteps = backend_module(__package__).FusedSteps

__all__ = ["FusedSteps", "fuse_steps"]


def fuse_steps(model, train_function):
    """Returns `FusedSteps` if they are possible and faster, else the train function of Keras."""
    is_fused = (
        model.steps_per_execution > 1
        and model.jit_compile
        and not model.run_eagerly
        and model._logs_are_metric_results
        and not is_distributed()
        and should_fuse_steps(model)
    )
    return FusedSteps(model, train_function) if is_fused else train_function
