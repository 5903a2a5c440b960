"""The residual network with ReLU after the sum."""

import math
from collections.abc import Sequence

import keras

from keras_svag.models.convolution import Layers, channel_counts, classifier, image_input
from keras_svag.models.normalization import EPSILON
from keras_svag.models.residual import STAGE_CHANNELS, blocks, blocks_per_stage


def resnet(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 32,
    width: float = 1,
    norm: str = "batch",
    affine: bool = False,
    train_last_layer: bool = False,
    epsilon: float = EPSILON,
    seed: int | None = None,
) -> keras.Model:
    """Residual network for small images, after He et al. 2016 (arXiv 1512.03385, section 4.2).

    A 3x3 convolution, normalization and ReLU; three stages of `(depth - 2) / 6` blocks (3x3
    convolution, normalization, ReLU, 3x3 convolution, normalization, sum, ReLU) with 16, 32 and 64
    channels, the latter two with stride 2; average over the image; last layer. Only shortcuts of
    blocks that change the shape have a 1x1 convolution and a normalization.

    `affine=True, train_last_layer=True` gives the network of Li, Malladi, Arora 2021 (arXiv
    2102.12470) that is not scale invariant. By default it is, in each convolution by itself. As in
    the authors' code, kernels have variance 2 / fan_out, and the last layer is drawn uniformly
    within 1 / sqrt(fan_in), PyTorch's default.

    Args:
        input_shape: shape of one example, `(height, width, channels)` or `(height, width)`.
        num_classes: int, number of classes.
        depth: int, number of layers, 6n + 2. Defaults to `32`.
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
