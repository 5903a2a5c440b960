"""Many train steps of `fit` in one compiled program (`steps_per_execution`)."""

from keras_svag._backend import check_backend

if check_backend() == "jax":
    from keras_svag.multi_step.jax import StepsInsideXLA, with_steps_inside_xla
else:
    from keras_svag.multi_step.tensorflow import StepsInsideXLA, with_steps_inside_xla

__all__ = ["StepsInsideXLA", "with_steps_inside_xla"]
