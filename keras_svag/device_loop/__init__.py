"""Training and evaluation over data that stay on the device."""

from keras_svag._backend import backend_module
from keras_svag.device_loop.loop import DeviceEvaluation, DeviceTrainLoop
from keras_svag.device_loop.vmapped import VmappedTrainLoop
from keras_svag.xla_policy import should_fuse_steps

limit_threads = backend_module(__package__).limit_threads

__all__ = [
    "DeviceEvaluation",
    "DeviceTrainLoop",
    "VmappedTrainLoop",
    "limit_threads",
    "should_fuse_steps",
]
