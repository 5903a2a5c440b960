"""Train steps of several runs of one model side by side; `None` where the backend has no such."""

from keras_svag._backend import backend_module

VmappedTrainLoop = backend_module(__package__).VmappedTrainLoop

__all__ = ["VmappedTrainLoop"]
