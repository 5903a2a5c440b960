"""The convolutional networks in NumPy and float64, from the weights of a Keras model by name."""

import keras
import numpy as np


def convolve(x, kernel, stride=1):
    """Convolution with `size // 2` zeros on each of the four sides."""
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows[:, ::stride, ::stride], kernel, optimize=True)


def normalize(x, norm, epsilon):
    """Mean 0 and variance 1 (but for epsilon) over the axes that belong to the name."""
    groups = {"batch": x.shape[-1], "group": 8, "layer": 1}[norm]
    parts = x.reshape(*x.shape[:-1], groups, -1)
    axes = tuple(i for i in range(parts.ndim) if i != parts.ndim - 2)
    axes = axes if norm == "batch" else axes[1:]
    mean = parts.mean(axis=axes, keepdims=True)
    variance = ((parts - mean) ** 2).mean(axis=axes, keepdims=True)
    return ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)


def relu(x):
    return np.maximum(x, 0)


class NetworkOracle:
    """Logits of the networks in training mode.

    Args:
        model: what `preresnet`, `resnet` or `vgg` gave.
        norm, epsilon: their arguments.
    """

    def __init__(self, model, norm, epsilon):
        self.model, self.norm, self.epsilon = model, norm, epsilon

    def weight(self, layer, name):
        value = getattr(self.model.get_layer(layer), name)
        return None if value is None else keras.ops.convert_to_numpy(value).astype(np.float64)

    def conv(self, x, name, stride=1):
        return convolve(x, self.weight(name, "kernel"), stride)

    def normal(self, x, name):
        if self.norm == "none":
            return x
        x = normalize(x, self.norm, self.epsilon)
        if self.weight(name, "gamma") is not None:
            x = self.weight(name, "gamma") * x + self.weight(name, "beta")
        return x

    def last(self, x):
        bias = self.weight("logits", "bias")
        logits = x.mean(axis=(1, 2)) @ self.weight("logits", "kernel")
        return logits if bias is None else logits + bias

    def preresnet(self, x, n):
        x = self.conv(x, "stem")
        for stage, first_stride in enumerate((1, 2, 2)):
            for block in range(n):
                name, stride = f"stage_{stage}_block_{block}", 1 if block else first_stride
                out = relu(self.normal(x, f"{name}_norm_0"))
                out = self.conv(out, f"{name}_conv_0", stride)
                out = relu(self.normal(out, f"{name}_norm_1"))
                out = self.conv(out, f"{name}_conv_1")
                if block == 0:
                    x = self.normal(x, f"stage_{stage}_shortcut_norm")
                    x = self.conv(x, f"stage_{stage}_shortcut", stride)
                x = x + out
        return self.last(self.normal(x, "last_norm"))

    def resnet(self, x, n):
        x = relu(self.normal(self.conv(x, "stem"), "stem_norm"))
        for stage, first_stride in enumerate((1, 2, 2)):
            for block in range(n):
                name, stride = f"stage_{stage}_block_{block}", 1 if block else first_stride
                out = self.conv(x, f"{name}_conv_0", stride)
                out = relu(self.normal(out, f"{name}_norm_0"))
                out = self.normal(self.conv(out, f"{name}_conv_1"), f"{name}_norm_1")
                if stride == 2:
                    x = self.conv(x, f"stage_{stage}_shortcut", stride)
                    x = self.normal(x, f"stage_{stage}_shortcut_norm")
                x = relu(x + out)
        return self.last(x)

    def vgg(self, x, convolutions):
        for stage, number in enumerate(convolutions):
            for i in range(number):
                x = self.conv(x, f"stage_{stage}_conv_{i}")
                x = relu(self.normal(x, f"stage_{stage}_norm_{i}"))
            batch, height, width, channels = x.shape
            x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
        return self.last(x)
