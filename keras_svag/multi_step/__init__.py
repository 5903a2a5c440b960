"""Many train steps of `fit` in one compiled program (`steps_per_execution`)."""

from keras_svag._backend import backend_module

backend = backend_module(__package__)
StepsInsideXLA = backend.StepsInsideXLA
with_steps_inside_xla = backend.with_steps_inside_xla

__all__ = ["StepsInsideXLA", "with_steps_inside_xla"]
