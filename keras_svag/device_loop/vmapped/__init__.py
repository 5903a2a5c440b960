"""Train steps of several runs of one model, vectorized; `None` where the backend cannot."""

from keras_svag._backend import backend_module

VmappedTrainLoop = backend_module(__package__).VmappedTrainLoop

__all__ = ["VmappedTrainLoop"]
