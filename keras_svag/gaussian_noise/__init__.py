"""Noisy gradient descent and Euler-Maruyama: training with Gaussian gradient noise."""

from keras_svag.gaussian_noise.loop import GaussianNoiseLoop

__all__ = ["GaussianNoiseLoop"]
