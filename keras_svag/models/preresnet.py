"""The pre-activation residual network, scale invariant as in the paper."""

from collections.abc import Sequence

import keras

from keras_svag.models.convolution import Layers, channel_counts, classifier, image_input
from keras_svag.models.normalization import EPSILON
from keras_svag.models.residual import STAGE_CHANNELS, blocks, blocks_per_stage


def preresnet(
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
    """Pre-activation residual network for small images, scale invariant by default.

    The network of most experiments of Li, Malladi, Arora 2021 (arXiv 2102.12470), after He et al.
    2016 (arXiv 1603.05027): a 3x3 convolution; three stages of `(depth - 2) / 6` blocks (twice
    normalization, ReLU, 3x3 convolution) with 16, 32 and 64 channels, the latter two with stride 2;
    normalization, without ReLU; average over the image; last layer. As in the authors' code each
    stage, also the first, starts with a block whose shortcut is a normalization and a 1x1
    convolution, so that its output is proportional to the scale of the trained weights, which the
    last normalization removes. With a normalization, `affine=False` and `train_last_layer=False`
    (the defaults) the logits therefore do not change (up to `epsilon`) when all trained weights are
    scaled together; they do when those of one layer are.

    With `norm="none"` the authors' in-place ReLU also clips the shortcut; here it does not.

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

    >>> preresnet((8, 8), 10, depth=8, norm="group").output_shape
    (None, 10)
    """
    blocks_in_stage = blocks_per_stage(depth)
    counts = channel_counts(STAGE_CHANNELS, width, norm)
    layers = Layers(norm, affine, epsilon, seed)

    inputs, x = image_input(input_shape)
    x = layers.convolution(x, counts[0], "stem")
    for stage, block, channels, stride in blocks(counts, blocks_in_stage):
        shortcut = x
        if block == 0:
            shortcut = layers.normalize(x, f"stage_{stage}_shortcut_norm")
            shortcut = layers.convolution(
                shortcut, channels, f"stage_{stage}_shortcut", size=1, stride=stride
            )
        name = f"stage_{stage}_block_{block}"
        x = layers.normalize_relu(x, f"{name}_norm_0")
        x = layers.convolution(x, channels, f"{name}_conv_0", stride=stride)
        x = layers.normalize_relu(x, f"{name}_norm_1")
        x = layers.convolution(x, channels, f"{name}_conv_1")
        x = keras.layers.Add()([x, shortcut])
    x = layers.normalize(x, "last_norm")
    outputs = classifier(x, num_classes, train_last_layer, layers.he_normal())
    return keras.Model(inputs, outputs, name="preresnet")
