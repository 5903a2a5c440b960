"""The study of whether the shape of the gradient noise matters."""

from keras_svag.studies.noisy_gradient_descent.study import NoisyGradientDescent

__all__ = ["NoisyGradientDescent"]
