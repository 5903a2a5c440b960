"""What the convolutional networks share: checks of their arguments, and their layers."""

import keras
import numpy as np

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.models.normalization import GROUPS, NORMS, normalization

CHANNELS_LAST = "channels_last"


def image_input(input_shape, minimum=1):
    """The input of a network for images.

    Args:
        input_shape: shape of one example, `(height, width, channels)`, or `(height, width)` for
            images of one channel.
        minimum: smallest allowed height and width.

    Returns:
        The input tensor, and a tensor of shape `(batch, height, width, channels)`.

    Raises:
        ValueError: if `input_shape` is not the shape of such an image.
    """
    shape = tuple(input_shape)
    if len(shape) not in (2, 3) or min(shape) < 1 or min(shape[:2]) < minimum:
        raise ValueError(
            "`input_shape` must be (height, width, channels) or (height, width), with height and "
            f"width >= {minimum}. Received: input_shape={input_shape!r}"
        )
    inputs = keras.Input(shape)
    return inputs, inputs if len(shape) == 3 else keras.layers.Reshape((*shape, 1))(inputs)


def channel_counts(bases, width, norm):
    """Channels of each part of a network that is `width` times as wide as the standard one.

    Args:
        bases: channel counts of the standard network.
        width: number > 0 to multiply them with.
        norm: name of the normalisation; 8 groups must divide the counts under `"group"`.

    Returns:
        A list of ints.

    Raises:
        ValueError: if the counts are not whole numbers, or the groups do not divide them.
    """
    one_of("norm", norm, NORMS)
    factor = finite_float("width", width, "a number > 0", 0.0, exclusive=True)
    counts = [base * factor for base in bases]
    unit = GROUPS if norm == "group" else 1
    if any(count % unit for count in counts):
        raise ValueError(
            f"`width` times {min(bases)} must be a multiple of {unit} for norm={norm!r}, which "
            f"counts channels in units of {unit}. Received: width={width!r}. "
            f"Use a multiple of {unit / min(bases):g}."
        )
    return [int(count) for count in counts]


class Layers:
    """Layers of one network, which share a normalisation and draw their seeds one after the other.

    Args:
        norm: name of the normalisation.
        affine: whether normalisations have a trained scale and offset.
        epsilon: epsilon of the normalisations.
        seed: int that decides all initial weights, or `None` for others each time.
        fan: what the variance `2 / fan` of convolution kernels refers to: `"fan_in"` or
            `"fan_out"`.
    """

    def __init__(self, norm, affine, epsilon, seed, fan="fan_in"):
        self._norm = {"norm": norm, "affine": affine, "epsilon": epsilon}
        self._seeds = np.random.SeedSequence(seed)
        self._fan = fan

    def next_seed(self):
        """The next seed of the network's stream, an int."""
        return int(self._seeds.spawn(1)[0].generate_state(1)[0])

    def he_normal(self, fan="fan_in"):
        """A normal distribution of variance `2 / fan`, not truncated (Keras' `HeNormal` is)."""
        return keras.initializers.VarianceScaling(
            2.0, fan, "untruncated_normal", seed=self.next_seed()
        )

    def convolution(self, x, channels, name, size=3, stride=1):
        """A convolution without bias that pads both sides alike.

        Keras' `padding="same"` with stride 2 pads even images on the right and below only, which
        shifts what each output sees by a pixel against the paper's code; hence the explicit zeros.
        """
        padding = "same"
        if stride > 1:
            padding = "valid"
            if size > 1:
                x = keras.layers.ZeroPadding2D(
                    size // 2, data_format=CHANNELS_LAST, name=f"{name}_padding"
                )(x)
        return keras.layers.Conv2D(
            channels,
            size,
            strides=stride,
            padding=padding,
            data_format=CHANNELS_LAST,
            use_bias=False,
            kernel_initializer=self.he_normal(self._fan),
            name=name,
        )(x)

    def normalize(self, x, name):
        """The network's normalisation of `x`, or `x` itself under `"none"`."""
        layer = normalization(name=name, **self._norm)
        return x if layer is None else layer(x)

    def normalize_relu(self, x, name):
        """ReLU of the normalisation of `x`."""
        return keras.layers.ReLU()(self.normalize(x, name))


def classifier(x, num_classes, trainable, kernel, bias="zeros"):
    """Averages over height and width, then the last layer, with a bias if it is trained.

    Args:
        x: tensor of shape `(batch, height, width, channels)`.
        num_classes: number of classes.
        trainable: whether the last layer is trained. A bias that is not trained stays zero in the
            paper's code, so there is none here.
        kernel: initializer of the kernel.
        bias: initializer of the bias.

    Returns:
        Logits of shape `(batch, num_classes)`.
    """
    x = keras.layers.GlobalAveragePooling2D(data_format=CHANNELS_LAST, name="average")(x)
    return keras.layers.Dense(
        positive_int("num_classes", num_classes),
        use_bias=trainable,
        kernel_initializer=kernel,
        bias_initializer=bias,
        trainable=trainable,
        name="logits",
    )(x)
