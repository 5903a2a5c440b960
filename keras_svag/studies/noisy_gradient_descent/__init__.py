"""Is the shape of the gradient noise needed?"""

from keras_svag.studies.noisy_gradient_descent.study import NoisyGradientDescent

__all__ = ["NoisyGradientDescent"]
