"""Training with Gaussian gradient noise: noisy gradient descent and Euler-Maruyama."""

from keras_svag.gaussian_noise.loop import GaussianNoiseLoop

__all__ = ["GaussianNoiseLoop"]
