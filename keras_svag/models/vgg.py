"""The VGG network of the paper, with average pooling and one last layer."""

from collections.abc import Sequence

import keras

from keras_svag._checks import one_of
from keras_svag.models.convolution import (
    CHANNELS_LAST,
    Layers,
    channel_counts,
    classifier,
    image_input,
)
from keras_svag.models.normalization import EPSILON

STAGE_CHANNELS = (64, 128, 256, 512, 512)
# Convolutions before each of the five poolings.
CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
MINIMUM_SIDE = 2 ** len(STAGE_CHANNELS)


def vgg(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 16,
    width: float = 1,
    norm: str = "batch",
    affine: bool = False,
    train_last_layer: bool = False,
    epsilon: float = EPSILON,
    seed: int | None = None,
) -> keras.Model:
    """VGG network for small images, after Simonyan and Zisserman 2015 (arXiv 1409.1556).

    3x3 convolutions, each with normalization and ReLU, in five stages of 64, 128, 256, 512 and 512
    channels, with 2x2 average pooling after each (VGG itself has max pooling); average over the
    image; one last layer instead of three.

    With a normalization, `affine=False` and `train_last_layer=False` (the defaults) the logits do
    not change (up to `epsilon`) when the weights of any convolution are scaled. Without a
    normalization they are proportional to the scale of each: scaling all `depth - 3` convolutions
    by c multiplies them by c^(depth - 3). Unlike in the code of Li, Malladi, Arora 2021 (arXiv
    2102.12470), `width` has an effect, and there is no variant without normalization but with
    biases.

    Args:
        input_shape: shape of one example, `(height, width, channels)` or `(height, width)`, at
            least 32x32.
        num_classes: int, number of classes.
        depth: 11, 13, 16 or 19, of which 3 less are convolutions. Defaults to `16`.
        width: number > 0 that multiplies the channel counts. Defaults to `1`.
        norm: `"batch"`, `"group"`, `"layer"` or `"none"`. Defaults to `"batch"`.
        affine: bool, train scale and offset of normalizations. Defaults to `False`.
        train_last_layer: bool, train the last layer, with a bias. Defaults to `False`.
        epsilon: float >= 0, added to variances in normalizations. Defaults to `1e-5`.
        seed: int for the initial weights. Defaults to `None`: different ones on each call.

    Returns:
        A functional `keras.Model` that outputs logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> vgg((32, 32, 3), 10, depth=11, width=0.125).output_shape
    (None, 10)
    """
    convolutions = CONVOLUTIONS[one_of("depth", depth, CONVOLUTIONS)]
    counts = channel_counts(STAGE_CHANNELS, width, norm)
    layers = Layers(norm, affine, epsilon, seed)

    inputs, x = image_input(input_shape, minimum=MINIMUM_SIDE)
    for stage, (channels, number) in enumerate(zip(counts, convolutions)):
        for i in range(number):
            x = layers.convolution(x, channels, f"stage_{stage}_conv_{i}")
            x = layers.normalize_relu(x, f"stage_{stage}_norm_{i}")
        x = keras.layers.AveragePooling2D(2, data_format=CHANNELS_LAST)(x)
    outputs = classifier(x, num_classes, train_last_layer, layers.he_normal())
    return keras.Model(inputs, outputs, name="vgg")
