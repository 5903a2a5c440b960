"""Training and evaluation on data that stay on the device."""

from keras_svag._backend import backend_module
from keras_svag.loops import loops_inside_xla
from keras_svag.resident.loop import ResidentEvaluation, ResidentLoop
from keras_svag.resident.stacked import StackedLoop

limit_threads = backend_module(__package__).limit_threads

__all__ = ["ResidentEvaluation", "ResidentLoop", "StackedLoop", "limit_threads", "loops_inside_xla"]
