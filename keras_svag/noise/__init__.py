"""The gradient noise scale from gradients that training computes anyway, without `SVAGModel`."""

from keras_svag.noise.scale import GradientNoiseScale

__all__ = ["GradientNoiseScale"]
