"""Layers and argument checks that the convolutional networks share."""

import keras
import numpy as np

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.models.normalization import GROUPS, NORMS, normalization

CHANNELS_LAST = "channels_last"


def image_input(input_shape, minimum=1):
    """Returns the input tensor, and the same with shape `(batch, height, width, channels)`."""
    shape = tuple(input_shape)
    if len(shape) not in (2, 3) or min(shape) < 1 or min(shape[:2]) < minimum:
        raise ValueError(
            "`input_shape` must be (height, width, channels) or (height, width), with height and "
            f"width >= {minimum}. Received: input_shape={input_shape!r}"
        )
    inputs = keras.Input(shape)
    return inputs, inputs if len(shape) == 3 else keras.layers.Reshape((*shape, 1))(inputs)


def channel_counts(bases, width, norm):
    """Channels of each stage of a network, `width` times those of the standard one."""
    one_of("norm", norm, NORMS)
    factor = finite_float("width", width, "a number > 0", 0.0, exclusive=True)
    counts = [base * factor for base in bases]
    unit = GROUPS if norm == "group" else 1
    if any(count % unit for count in counts):
        raise ValueError(
            f"`width` must be a multiple of {unit / min(bases):g} for norm={norm!r}, which needs "
            f"multiples of {unit} channels. Received: width={width!r}"
        )
    return [int(count) for count in counts]


class Layers:
    """Layers of one network, with a common normalization and consecutive seeds.

    Convolution kernels have variance `2 / fan`, where `fan` is "fan_in" or "fan_out".
    """

    def __init__(self, norm, affine, epsilon, seed, fan="fan_in"):
        self._norm = {"norm": norm, "affine": affine, "epsilon": epsilon}
        self._seeds = np.random.SeedSequence(seed)
        self._fan = fan

    def next_seed(self):
        """Next seed of the network's stream."""
        return int(self._seeds.spawn(1)[0].generate_state(1)[0])

    def he_normal(self, fan="fan_in"):
        """Normal initializer of variance `2 / fan`, not truncated (Keras' `HeNormal` is)."""
        return keras.initializers.VarianceScaling(
            2.0, fan, "untruncated_normal", seed=self.next_seed()
        )

    def convolution(self, x, channels, name, size=3, stride=1):
        """Convolution without bias, padded equally on both sides."""
        # With stride 2, Keras' "same" pads even images on the right and below only: every output
        # would be a pixel off from the paper's code. Hence the explicit zeros.
        if stride > 1 and size > 1:
            x = keras.layers.ZeroPadding2D(
                size // 2, data_format=CHANNELS_LAST, name=f"{name}_padding"
            )(x)
        return keras.layers.Conv2D(
            channels,
            size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            data_format=CHANNELS_LAST,
            use_bias=False,
            kernel_initializer=self.he_normal(self._fan),
            name=name,
        )(x)

    def normalize(self, x, name):
        """Applies the network's normalization; the identity for `"none"`."""
        layer = normalization(name=name, **self._norm)
        return x if layer is None else layer(x)

    def normalize_relu(self, x, name):
        """Applies the network's normalization, then ReLU."""
        return keras.layers.ReLU()(self.normalize(x, name))


def classifier(x, num_classes, trainable, kernel, bias="zeros"):
    """Average over height and width, then the last layer, with a bias if it is trainable."""
    x = keras.layers.GlobalAveragePooling2D(data_format=CHANNELS_LAST, name="average")(x)
    return keras.layers.Dense(
        positive_int("num_classes", num_classes),
        use_bias=trainable,  # an untrained bias would stay zero
        kernel_initializer=kernel,
        bias_initializer=bias,
        trainable=trainable,
        name="logits",
    )(x)
