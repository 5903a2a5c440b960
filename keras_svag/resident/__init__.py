"""Training and evaluation on data that stay on the device."""

from keras_svag._backend import check_backend
from keras_svag.loops import loops_inside_xla
from keras_svag.resident.loop import ResidentEvaluation, ResidentLoop

if check_backend() == "jax":
    from keras_svag.resident.jax import limit_threads
    from keras_svag.resident.stacked import StackedLoop
else:
    from keras_svag.resident.tensorflow import limit_threads

    StackedLoop = None  # a train step cannot be vectorised over the values of its variables

__all__ = ["ResidentEvaluation", "ResidentLoop", "StackedLoop", "limit_threads", "loops_inside_xla"]
