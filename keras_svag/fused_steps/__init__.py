"""Runs the train steps of `steps_per_execution=K` in one compiled program."""

from keras_svag._backend import backend_module

backend = backend_module(__package__)
FusedSteps = backend.FusedSteps
fuse_steps = backend.fuse_steps

__all__ = ["FusedSteps", "fuse_steps"]
