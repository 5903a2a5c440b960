"""The network of the digits study in NumPy, with gradients by hand."""

import numpy as np

GROUPS = 8


def normalize(x, epsilon):
    """Group norm without scale and offset; returns the result and what its gradient needs."""
    groups = x.reshape(len(x), GROUPS, -1)
    deviation = np.sqrt(groups.var(axis=2, keepdims=True) + epsilon)
    normal = (groups - groups.mean(axis=2, keepdims=True)) / deviation
    return normal.reshape(x.shape), (normal, deviation)


def normalize_gradient(upstream, cache):
    """Gradient with respect to the input of `normalize`."""
    normal, deviation = cache
    up = upstream.reshape(normal.shape)
    mean_up = up.mean(axis=2, keepdims=True)
    mean_both = (up * normal).mean(axis=2, keepdims=True)
    return ((up - mean_up - normal * mean_both) / deviation).reshape(upstream.shape)


class DigitsNet:
    """Dense without bias, group norm (or none), ReLU, twice or more; then a fixed last layer.

    Args:
        norm: whether there is group norm.
        epsilon: of the group norm.
    """

    def __init__(self, norm=True, epsilon=1e-5):
        self.norm, self.epsilon = norm, epsilon

    def _forward(self, kernels, x):
        """Logits and, for each hidden layer, its input, its mask and the norm's cache."""
        x = x.reshape(len(x), -1)
        layers = []
        for kernel in kernels[:-1]:
            y, cache = x @ kernel, None
            if self.norm:
                y, cache = normalize(y, self.epsilon)
            layers.append((x, y > 0, cache))
            x = np.maximum(y, 0)
        return x @ kernels[-1], layers

    def logits(self, kernels, x):
        """Logits of each example."""
        return self._forward(kernels, x)[0]

    def loss_and_accuracy(self, kernels, x, y):
        """Mean cross-entropy and the share of examples whose largest logit is the right one."""
        logits = self.logits(kernels, x)
        return self._loss(logits, y), float(np.mean(logits.argmax(axis=1) == y))

    @staticmethod
    def _loss(logits, y):
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        return float(np.mean(log_sum - shifted[np.arange(len(y)), y]))

    def gradient(self, kernels, x, y):
        """Gradient of the mean loss with respect to the hidden kernels, as a list."""
        logits, layers = self._forward(kernels, x)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = shifted / shifted.sum(axis=1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        gradients = []
        for (inputs, mask, cache), kernel in zip(reversed(layers), reversed(kernels[1:])):
            delta = (delta @ kernel.T) * mask
            if self.norm:
                delta = normalize_gradient(delta, cache)
            gradients.append(inputs.T @ delta)
        return gradients[::-1]
