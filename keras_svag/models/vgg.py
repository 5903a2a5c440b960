"""The VGG network of the paper: convolutions and average pooling, one last layer."""

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
    input_shape,
    num_classes,
    depth=16,
    width=1,
    norm="batch",
    affine=False,
    train_last_layer=False,
    epsilon=EPSILON,
    seed=None,
):
    """A VGG network for small images, after Simonyan and Zisserman 2015 (arXiv 1409.1556).

    With a normalisation, `affine=False` and `train_last_layer=False` (the defaults) the logits do
    not change (up to `epsilon`) when the weights of any convolution are scaled. Without a
    normalisation they are proportional to the scale of each, so that scaling all `depth - 3`
    convolutions by c multiplies them by c^(depth - 3).

    As in the code of Li, Malladi, Arora 2021 (arXiv 2102.12470):

    - 3x3 convolutions, each followed by normalisation and ReLU, in five stages of 64, 128, 256,
      512, 512 channels; after each stage an *average* over 2x2 pixels (VGG itself takes the
      maximum); average over the image that is left, and one last layer instead of three.
    - No convolution has a bias, without normalisation either: the authors' experiments "without
      normalisation" are their normalised network with the normalisation left out.
    - Kernels and the last layer are drawn normal with variance 2 / fan_in, not truncated; the bias
      of a trained last layer starts at zero.

    Otherwise than there: `width`, which their VGG ignores; epsilon is 1e-5 unless given (theirs is
    0; see `keras_svag.models.normalization`); moving variances follow the biased variance of the
    batch (PyTorch's the unbiased one); their second network without normalisation, with biases in
    the convolutions, is not offered.

    Args:
        input_shape: shape of one example, `(height, width, channels)` or `(height, width)`, at
            least 32x32.
        num_classes: number of classes.
        depth: 11, 13, 16 or 19, as VGG's depth is counted: this many layers less three are
            convolutions. Defaults to `16`.
        width: number > 0 that multiplies the channel counts. Defaults to `1`.
        norm: `"batch"`, `"group"`, `"layer"` or `"none"`. Defaults to `"batch"`.
        affine: whether normalisations have a trained scale and offset. Defaults to `False`.
        train_last_layer: whether the last layer is trained; it then has a bias. Defaults to
            `False`.
        epsilon: epsilon of the normalisations. Defaults to `1e-5`.
        seed: int that decides the initial weights, or `None` for other weights on each call.

    Returns:
        A functional `keras.Model` from images to logits of shape `(batch, num_classes)`.

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
