"""Training and evaluation on data that stay on the device."""

from keras_svag.loops import loops_inside_xla
from keras_svag.resident.tensorflow import ResidentEvaluation, ResidentLoop, limit_threads

__all__ = ["ResidentEvaluation", "ResidentLoop", "limit_threads", "loops_inside_xla"]
