"""The study of how far a scaling rule holds."""

from keras_svag.studies.linear_scaling.study import LinearScaling

__all__ = ["LinearScaling"]
