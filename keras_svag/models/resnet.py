"""The residual network with ReLU after the sum, as most people know it."""

import math

import keras

from keras_svag.models.convolution import Layers, channel_counts, classifier, image_input
from keras_svag.models.normalization import EPSILON
from keras_svag.models.residual import STAGE_CHANNELS, blocks, blocks_per_stage


def resnet(
    input_shape,
    num_classes,
    depth=32,
    width=1,
    norm="batch",
    affine=False,
    train_last_layer=False,
    epsilon=EPSILON,
    seed=None,
):
    """A residual network for small images, after He et al. 2016 (arXiv 1512.03385, section 4.2).

    In Li, Malladi, Arora 2021 (arXiv 2102.12470) it is the network that is not scale invariant:
    that is `resnet(input_shape, num_classes, affine=True, train_last_layer=True)`. With the
    defaults here, and any normalisation, it is scale invariant, and so in each convolution by
    itself, since a normalisation follows every one.

    As in the authors' code:

    - 3x3 convolution, normalisation, ReLU, three stages of `(depth - 2) / 6` blocks (3x3
      convolution, normalisation, ReLU, 3x3 convolution, normalisation, sum, ReLU) with 16, 32, 64
      channels, the latter two begun with stride 2, average over the image, last layer. Only a
      block that changes the shape has a 1x1 convolution and a normalisation in its shortcut.
    - No convolution has a bias. Kernels are drawn normal with variance 2 / fan_out, not truncated;
      the last layer and its bias uniform within 1 / sqrt(fan_in), PyTorch's default.
    - epsilon is 1e-5.

    Otherwise than there: batch norm with scale and offset, a trained last layer and width 1 are
    all that the authors' network has, whatever their config says; here they are arguments, and the
    defaults are those of the other networks. The average is over an image of any size, theirs over
    8x8. Moving variances follow the biased variance of the batch (PyTorch's the unbiased one).

    Args:
        input_shape: shape of one example, `(height, width, channels)` or `(height, width)`.
        num_classes: number of classes.
        depth: number of layers, 6n + 2. Defaults to `32`.
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

    >>> resnet((8, 8, 3), 10, depth=8, affine=True, train_last_layer=True).output_shape
    (None, 10)
    """
    blocks_in_stage = blocks_per_stage(depth)
    counts = channel_counts(STAGE_CHANNELS, width, norm)
    layers = Layers(norm, affine, epsilon, seed, fan="fan_out")

    inputs, x = image_input(input_shape)
    x = layers.convolution(x, counts[0], "stem")
    x = layers.normalize_relu(x, "stem_norm")
    for stage, block, channels, stride in blocks(counts, blocks_in_stage):
        shortcut = x
        if stride > 1:
            name = f"stage_{stage}_shortcut"
            shortcut = layers.convolution(x, channels, name, size=1, stride=stride)
            shortcut = layers.normalize(shortcut, f"{name}_norm")
        name = f"stage_{stage}_block_{block}"
        x = layers.convolution(x, channels, f"{name}_conv_0", stride=stride)
        x = layers.normalize_relu(x, f"{name}_norm_0")
        x = layers.convolution(x, channels, f"{name}_conv_1")
        x = layers.normalize(x, f"{name}_norm_1")
        x = keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
    bound = 1 / math.sqrt(counts[-1])
    outputs = classifier(
        x,
        num_classes,
        train_last_layer,
        kernel=keras.initializers.RandomUniform(-bound, bound, seed=layers.next_seed()),
        bias=keras.initializers.RandomUniform(-bound, bound, seed=layers.next_seed()),
    )
    return keras.Model(inputs, outputs, name="resnet")
